//! A viewer by either transport: one vocabulary for what both have to do alike.

use serde_json::Value;

#[cfg(feature = "ws")]
use super::Socket;
use super::{Host, Stream, get};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Sse,
    #[cfg(feature = "ws")]
    WebSocket,
}

/// An event, whatever it came by: by the name that it has over SSE.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub name: String,
    pub id: Option<String>,
    pub data: Value,
}

pub struct Viewer {
    /// The first thing that it was told.
    pub established: Told,
    line: Line,
}

enum Line {
    Sse(Box<Stream>),
    #[cfg(feature = "ws")]
    WebSocket(Box<Socket>),
}

impl Transport {
    /// Opens what `query` asks for: `channels=a,b`, filters, places to begin.
    pub async fn open(self, host: &Host, query: &str) -> Viewer {
        self.open_with(host, query, &[]).await
    }

    pub async fn open_with(
        self,
        host: &Host,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Viewer {
        match self {
            Self::Sse => {
                let mut request = get(&format!("/stream?{query}"));
                for (name, value) in headers {
                    request.headers_mut().insert(*name, value.parse().unwrap());
                }
                let stream = host.connect().await.stream(request).await;
                let event = stream.established.clone();
                Viewer {
                    established: Told {
                        name: event.name,
                        id: event.id,
                        data: event.data,
                    },
                    line: Line::Sse(Box::new(stream)),
                }
            }
            #[cfg(feature = "ws")]
            Self::WebSocket => {
                let path = format!("/ws?{query}");
                let mut socket = Socket::open_with(host.address, &path, headers).await;
                let established = told(socket.next().await);
                assert_eq!(established.name, "connection_established", "{path}");
                Viewer {
                    established,
                    line: Line::WebSocket(Box::new(socket)),
                }
            }
        }
    }

    /// The head of what a late one is answered.
    pub async fn refused(self, host: &Host) -> u16 {
        match self {
            Self::Sse => {
                let request = get("/stream?channels=stats");
                host.connect().await.head(request).await.0
            }
            #[cfg(feature = "ws")]
            Self::WebSocket => match Socket::try_open(host.address, "/ws/stats", &[]).await {
                Ok(_) => 101,
                Err((status, _)) => status.as_u16(),
            },
        }
    }
}

#[cfg(feature = "ws")]
fn told(envelope: Value) -> Told {
    let name = match envelope["type"].as_str().unwrap() {
        "stats_update" => "stats",
        "request" => "requests",
        "ping" => "heartbeat",
        name => name,
    };
    Told {
        name: name.to_owned(),
        id: envelope["id"].as_str().map(ToOwned::to_owned),
        data: envelope["data"].clone(),
    }
}

impl Viewer {
    pub async fn next(&mut self) -> Told {
        match self.next_or_end().await {
            Some(told) => told,
            None => panic!("the end instead of an event"),
        }
    }

    /// `None` at an end of the server's making.
    pub async fn next_or_end(&mut self) -> Option<Told> {
        match &mut self.line {
            Line::Sse(stream) => stream.next_or_end().await.map(|event| Told {
                name: event.name,
                id: event.id,
                data: event.data,
            }),
            #[cfg(feature = "ws")]
            Line::WebSocket(socket) => socket.next_or_end().await.ok().map(told),
        }
    }

    /// The next one of a name; others are passed over.
    pub async fn wait_for(&mut self, name: &str) -> Told {
        loop {
            let told = self.next().await;
            if told.name == name {
                return told;
            }
        }
    }

    /// Everything up to the end, which has to come by itself.
    pub async fn rest(mut self) -> Vec<Told> {
        let mut all = Vec::new();
        while let Some(told) = self.next_or_end().await {
            all.push(told);
        }
        all
    }

    /// The numbers of the next `count` ticks, and that nothing else comes between them.
    pub async fn ticks(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let told = self.next().await;
            assert_eq!(told.name, "Tick", "{told:?}");
            numbers.push(told.data["n"].as_u64().unwrap());
        }
        numbers
    }
}

/// Runs each of these over SSE and over WebSocket: functions that take a [`Transport`].
#[allow(unused_macros)]
macro_rules! over_both {
    ($($name:ident)*) => {
        mod sse {
            $(#[tokio::test] async fn $name() { super::$name(super::Transport::Sse).await })*
        }
        #[cfg(feature = "ws")]
        mod websocket {
            $(#[tokio::test] async fn $name() { super::$name(super::Transport::WebSocket).await })*
        }
    };
}
pub(crate) use over_both;
