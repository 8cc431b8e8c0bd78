//! A WebSocket of a stranger's client, whose messages are checked as they come.

use std::net::SocketAddr;

use axum::http::{Response, StatusCode};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use super::soon;

pub struct Socket {
    asked: String,
    stream: WebSocketStream<TcpStream>,
    pub head: Response<()>,
    /// The types of what came, for messages.
    seen: Vec<String>,
}

/// How a connection ended.
#[derive(Debug, PartialEq)]
pub struct Closed {
    /// `None`: without a Close frame, or with an empty one.
    pub code: Option<u16>,
    pub reason: String,
}

impl Socket {
    /// The answer where it is no handshake.
    pub async fn try_open(
        address: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, (StatusCode, Value)> {
        let mut request = format!("ws://{address}{path}")
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let tcp = TcpStream::connect(address).await.unwrap();
        let asked = format!("ws {path}");
        match soon(&asked, client_async(request, tcp)).await {
            Ok((stream, head)) => Ok(Self {
                asked,
                stream,
                head: head.map(drop),
                seen: Vec::new(),
            }),
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                Err((
                    answer.status(),
                    serde_json::from_slice(body).unwrap_or_default(),
                ))
            }
            Err(error) => panic!("{asked}: {error}"),
        }
    }

    pub async fn open(address: SocketAddr, path: &str) -> Self {
        Self::open_with(address, path, &[]).await
    }

    pub async fn open_with(
        address: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Self {
        match Self::try_open(address, path, headers).await {
            Ok(socket) => socket,
            Err((status, body)) => panic!("{path}: {status} {body:#}"),
        }
    }

    pub async fn send(&mut self, message: Value) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    pub async fn send_raw(&mut self, message: Message) {
        // A server that has seen enough may be gone.
        let _ = soon(&self.asked, self.stream.send(message)).await;
    }

    pub async fn ask(&mut self, kind: &str, data: Value) {
        self.send(json!({"type": kind, "data": data})).await;
    }

    /// The next frame, control frames included.
    pub async fn next_raw(&mut self) -> Option<Message> {
        let what = format!("{}: another message after {:?}", self.asked, self.seen);
        soon(&what, self.stream.next()).await.and_then(Result::ok)
    }

    /// The next message; `Err` at the end.
    pub async fn next_or_end(&mut self) -> Result<Value, Closed> {
        loop {
            return match self.next_raw().await {
                Some(Message::Text(text)) => {
                    let envelope: Value = serde_json::from_str(&text)
                        .unwrap_or_else(|error| panic!("{error} in {text}"));
                    self.check(&envelope);
                    Ok(envelope)
                }
                Some(Message::Close(frame)) => {
                    // Until the connection itself is over.
                    while self.next_raw().await.is_some() {}
                    let code = frame.as_ref().map(|frame| frame.code.into());
                    Err(Closed {
                        code,
                        reason: frame
                            .map(|frame| frame.reason.to_string())
                            .unwrap_or_default(),
                    })
                }
                Some(Message::Ping(_) | Message::Pong(_)) => continue,
                Some(other) => panic!("{}: {other:?}", self.asked),
                None => Err(Closed {
                    code: None,
                    reason: String::new(),
                }),
            };
        }
    }

    fn check(&mut self, envelope: &Value) {
        self.seen.push(
            envelope["type"]
                .as_str()
                .unwrap_or_else(|| panic!("no type in {envelope:#}"))
                .to_owned(),
        );
        let timestamp = envelope["timestamp"].as_str().unwrap_or_default();
        let shape = timestamp.len() == "2026-02-05T10:30:00.000Z".len() && timestamp.ends_with('Z');
        assert!(shape, "timestamp of {envelope:#}");
        assert!(envelope.get("data").is_some(), "data of {envelope:#}");
    }

    pub async fn next(&mut self) -> Value {
        match self.next_or_end().await {
            Ok(envelope) => envelope,
            Err(closed) => panic!("{}: {closed:?} after {:?}", self.asked, self.seen),
        }
    }

    /// The next message of a type; others are passed over.
    pub async fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            let envelope = self.next().await;
            if envelope["type"] == kind {
                return envelope;
            }
        }
    }

    /// Everything up to the end, which has to come by itself.
    pub async fn rest(mut self) -> (Vec<Value>, Closed) {
        let mut envelopes = Vec::new();
        loop {
            match self.next_or_end().await {
                Ok(envelope) => envelopes.push(envelope),
                Err(closed) => return (envelopes, closed),
            }
        }
    }

    /// Everything up to the answer to a ping, which comes behind what was asked for before.
    pub async fn until_pong(&mut self) -> Vec<Value> {
        self.ask("ping", json!({})).await;
        let mut envelopes = Vec::new();
        loop {
            match self.next().await {
                pong if pong["type"] == "pong" => return envelopes,
                envelope => envelopes.push(envelope),
            }
        }
    }
}
