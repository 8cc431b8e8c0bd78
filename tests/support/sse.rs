//! An event stream, parsed as strictly as the strictest printed client needs it.

use std::collections::VecDeque;

use axum::http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::{Connection, gunzip::Gunzip, soon};

/// Go's `bufio.Scanner` ends at a line of 64 KiB; ours are shorter.
const LONGEST_LINE: usize = 60_000;

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    pub retry: Option<u64>,
    pub data: Value,
}

impl Event {
    /// The sequence number of the event's position.
    #[track_caller]
    pub fn seq(&self) -> u64 {
        let id = self.id.as_deref().unwrap_or_default();
        match id.split_once('-').map(|(_, seq)| seq.parse()) {
            Some(Ok(seq)) => seq,
            _ => panic!("no position in {self:?}"),
        }
    }
}

/// An open stream of ours.
pub struct Stream {
    asked: String,
    /// Dropping it ends the connection.
    connection: Connection,
    pub headers: HeaderMap,
    /// The data of the first frame, `connection_established`.
    pub established: Event,
    body: Incoming,
    /// Where it is compressed.
    gunzip: Option<Gunzip>,
    unparsed: String,
    parsed: VecDeque<Event>,
    /// The names of what came, for messages.
    seen: Vec<String>,
}

impl Stream {
    pub(super) async fn open(
        asked: String,
        connection: Connection,
        response: Response<Incoming>,
    ) -> Self {
        let (head, mut body) = response.into_parts();
        if head.status != 200 {
            let body = soon(&asked, body_text(&mut body)).await;
            panic!("{asked}: {} instead of a stream: {body}", head.status);
        }
        assert_eq!(head.headers["content-type"], "text/event-stream", "{asked}");
        let gunzip = head
            .headers
            .get("content-encoding")
            .map(|encoding| assert_eq!(encoding, "gzip", "{asked}"))
            .map(|()| Gunzip::default());
        let mut stream = Self {
            asked,
            connection,
            headers: head.headers,
            established: Event {
                name: String::new(),
                id: None,
                retry: None,
                data: Value::Null,
            },
            body,
            gunzip,
            unparsed: String::new(),
            parsed: VecDeque::new(),
            seen: Vec::new(),
        };
        let first = stream.next().await;
        assert_eq!(first.name, "connection_established", "{}", stream.asked);
        stream.established = first;
        stream
    }

    /// The next event, whatever it is.
    pub async fn next(&mut self) -> Event {
        match self.next_or_end().await {
            Some(event) => event,
            None => panic!("{}: ended after {:?}", self.asked, self.seen),
        }
    }

    /// The next event of a type; others are passed over.
    pub async fn wait_for(&mut self, name: &str) -> Event {
        self.wait_until(name, |event| event.name == name).await
    }

    /// The first event that `wanted` likes; others are passed over.
    pub async fn wait_until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let seen = self.seen.len();
        let search = async {
            loop {
                let event = self.next().await;
                if wanted(&event) {
                    return event;
                }
            }
        };
        match tokio::time::timeout(super::DEADLINE, search).await {
            Ok(event) => event,
            Err(_) => panic!(
                "{}: no {what} within {:?}; came since: {:?}",
                self.asked,
                super::DEADLINE,
                &self.seen[seen..]
            ),
        }
    }

    /// Everything up to the end, which has to come by itself.
    pub async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next_or_end().await {
            events.push(event);
        }
        events
    }

    /// `None` at the end of the stream, which may lie between events only.
    pub async fn next_or_end(&mut self) -> Option<Event> {
        self.next_or(false).await
    }

    /// `None` at the end of the stream, wherever the network made it.
    pub async fn next_or_cut(&mut self) -> Option<Event> {
        self.next_or(true).await
    }

    async fn next_or(&mut self, may_break: bool) -> Option<Event> {
        loop {
            if let Some(event) = self.parsed.pop_front() {
                self.seen.push(event.name.clone());
                return Some(event);
            }
            let what = format!("{}: another event after {:?}", self.asked, self.seen);
            let frame = soon(&what, self.body.frame()).await;
            let data = match frame {
                None if may_break => return None,
                None => {
                    assert_eq!(self.unparsed, "", "{}: ended within an event", self.asked);
                    if let Some(gunzip) = &self.gunzip {
                        gunzip.finish();
                    }
                    return None;
                }
                Some(Err(_)) if may_break => return None,
                Some(Err(error)) => panic!("{}: broke: {error}", self.asked),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            let data = match &mut self.gunzip {
                Some(gunzip) => gunzip.decode(&data).into(),
                None => data,
            };
            let text = std::str::from_utf8(&data).expect("events are not split within a character");
            self.unparsed.push_str(text);
            while let Some(end) = self.unparsed.find("\n\n") {
                let block: String = self.unparsed.drain(..end + 2).collect();
                self.parsed.extend(parse(&block[..end]));
            }
        }
    }
}

/// One block between empty lines; `None` for comments and for a block that only moves the position.
#[track_caller]
pub fn parse(block: &str) -> Option<Event> {
    assert!(!block.contains('\r'), "lines end with LF only: {block:?}");
    let (mut name, mut id, mut retry, mut data) = (None, None, None, None);
    for line in block.split('\n') {
        assert!(
            line.len() <= LONGEST_LINE,
            "a line of {} bytes: {block:.200}",
            line.len()
        );
        if line.starts_with(':') {
            continue;
        }
        let (field, value) = line
            .split_once(": ")
            .unwrap_or_else(|| panic!("a line without `: `: {line:?} in {block:?}"));
        let slot = match field {
            "event" => &mut name,
            "id" => &mut id,
            "retry" => &mut retry,
            "data" => &mut data,
            _ => panic!("unknown field {field:?} in {block:?}"),
        };
        let before = slot.replace(value.to_owned());
        assert_eq!(before, None, "{field} twice in {block:?}");
    }
    if let Some(id) = &id {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let parts = id.split_once('-');
        let position = parts.is_some_and(|(epoch, seq)| digits(epoch) && digits(seq));
        assert!(
            position && id.len() <= 64,
            "not a position: {id:?} in {block:?}"
        );
    }
    let retry = retry.map(|retry| retry.parse().expect("retry is a number"));
    let (Some(name), Some(data)) = (name, data) else {
        return None;
    };
    let taken = ["error", "open", "message"];
    assert!(
        !taken.contains(&name.as_str()),
        "EventSource has an event {name} of its own"
    );
    let data = serde_json::from_str(&data)
        .unwrap_or_else(|error| panic!("{error} in the data of {block:?}"));
    Some(Event {
        name,
        id,
        retry,
        data,
    })
}

async fn body_text(body: &mut Incoming) -> String {
    let collected = body.collect().await.map(|body| body.to_bytes());
    String::from_utf8_lossy(&collected.unwrap_or_default()).into_owned()
}
