//! What the hub promises, on paused time.

mod changing;
mod ladder;
mod lags;
mod leaving;
mod sequence;

use std::{future::poll_fn, time::Duration};

use tokio_util::sync::CancellationToken;

use super::*;

/// An event that is its own JSON.
#[derive(Debug)]
struct Line {
    texts: Vec<String>,
    key: String,
    tenant: Option<String>,
}

impl Source for Line {
    fn len(&self) -> usize {
        self.texts.len()
    }
    fn name(&self, _: usize, _: Dialect) -> &str {
        "line"
    }
    fn write_json(&self, index: usize, _: Dialect, out: &mut Vec<u8>) {
        out.extend_from_slice(self.texts[index].as_bytes());
    }
    fn tags(&self, index: usize) -> Tags<'_> {
        Tags {
            kind: "line",
            user: Some(&self.texts[index]),
            tenant: self.tenant.as_deref(),
            ..Tags::default()
        }
    }
    fn key(&self, _: usize) -> &str {
        &self.key
    }
    fn weight(&self) -> usize {
        self.texts.iter().map(String::len).sum()
    }
}

pub(super) fn line(text: impl Into<String>) -> Arc<dyn Source> {
    Arc::new(Line {
        texts: vec![text.into()],
        key: String::new(),
        tenant: None,
    })
}

fn batch(texts: &[&str]) -> Arc<dyn Source> {
    Arc::new(Line {
        texts: texts.iter().map(ToString::to_string).collect(),
        key: String::new(),
        tenant: None,
    })
}

/// `channel seq text` a line.
fn encode(frame: &Frame<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{} {} ", frame.channel, frame.position.seq).as_bytes());
    frame.source.write_json(frame.index, Dialect::Stream, out);
    out.push(b'\n');
}

pub(super) fn settings() -> HubSettings {
    HubSettings {
        replay_capacity: 1000,
        replay_bytes: 1 << 20,
        replay_age: Duration::from_secs(3600),
        inbox_capacity: 1 << 16,
        max_channels: 64,
        max_clients: 100,
        flush_interval: Duration::from_millis(20),
        heartbeat_interval: Duration::from_secs(15),
        stall_timeout: Duration::from_secs(20),
        buffer_size: 100,
        encoders: [encode; FORMS],
        compressor: None,
    }
}

pub(super) struct House {
    pub(super) hub: Arc<Hub>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl House {
    pub(super) fn new(settings: HubSettings) -> Self {
        let (hub, inbox) = Hub::new(settings, Clock::new());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(hub.clone().run(inbox, shutdown.clone()));
        Self {
            hub,
            shutdown,
            task,
        }
    }

    pub(super) fn stream(&self, name: &str) -> ChannelId {
        self.hub.channel(name, ChannelConfig::stream()).unwrap()
    }

    pub(super) fn subscribe(&self, channels: &[ChannelId], start: Start) -> Subscription {
        self.hub.subscribe(spec(channels), start).unwrap()
    }

    /// Publishes, and waits until it is visible.
    pub(super) async fn publish(&self, channel: ChannelId, source: Arc<dyn Source>) -> u64 {
        let seq = self
            .hub
            .publish_and_wait(channel, source)
            .await
            .unwrap()
            .position
            .seq;
        while self.hub.visible_head() < seq {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        seq
    }
}

pub(super) fn spec(channels: &[ChannelId]) -> ViewSpec {
    ViewSpec {
        channels: ChannelSet::Some(channels.into()),
        filter: Filter::default(),
        tenant: None,
        form: Form(0),
        leases: Leases::default(),
    }
}

pub(super) async fn next(subscription: &mut Subscription) -> Read {
    let read = poll_fn(|cx| subscription.poll_read(cx));
    tokio::time::timeout(Duration::from_secs(60), read)
        .await
        .expect("nothing came for a minute")
        .expect("the subscription has ended")
}

/// Everything that is there now, as lines; gaps as `gap channel missed reason`.
pub(super) fn drain(subscription: &mut Subscription) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(read) = subscription.try_read() {
        match read {
            Read::Events(bytes) => {
                lines.extend(
                    std::str::from_utf8(&bytes)
                        .unwrap()
                        .lines()
                        .map(ToOwned::to_owned),
                );
            }
            Read::Gap(gap) => {
                let missed = gap
                    .missed
                    .map_or("?".to_owned(), |missed| missed.to_string());
                lines.push(format!("gap {} {missed} {:?}", gap.channel, gap.reason));
            }
            Read::Heartbeat(position) => lines.push(format!("beat {}", position.seq)),
            Read::Closed(reason) => {
                lines.push(format!("closed {}", reason.as_str()));
                break;
            }
        }
    }
    lines
}

fn state(house: &House, name: &str) -> ChannelId {
    house.hub.channel(name, ChannelConfig::state()).unwrap()
}
