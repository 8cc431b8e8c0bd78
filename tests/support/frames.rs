//! A WebSocket by hand: frames that no client would send, and the server's as they are.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::soon;

/// The first bytes of frames that are whole messages.
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8A;

/// A frame of the server: its first byte, and its payload.
pub type Frame = (u8, Vec<u8>);

pub struct Frames {
    tcp: TcpStream,
    read: Vec<u8>,
    /// The answer to the handshake, in lower case.
    pub head: String,
}

impl Frames {
    pub async fn open(address: SocketAddr, path: &str) -> Self {
        Self::open_with(address, path, "").await
    }

    /// `headers` end with CRLF each.
    pub async fn open_with(address: SocketAddr, path: &str, headers: &str) -> Self {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: test\r\n{headers}\r\n"
        );
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut frames = Self {
            tcp,
            read: Vec::new(),
            head: String::new(),
        };
        let end = loop {
            let end = frames
                .read
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            assert!(frames.read_more("the head").await, "no head");
        };
        let head: Vec<u8> = frames.read.drain(..end).collect();
        frames.head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(frames.head.starts_with("http/1.1 101 "), "{}", frames.head);
        frames
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // A server that has seen enough may be gone.
        let _ = soon("to write", self.tcp.write_all(bytes)).await;
    }

    /// False at the end.
    async fn read_more(&mut self, what: &str) -> bool {
        let mut piece = [0; 16 * 1024];
        // A server that closes while there is something left to read resets the connection.
        let len = soon(what, self.tcp.read(&mut piece)).await.unwrap_or(0);
        self.read.extend_from_slice(&piece[..len]);
        len > 0
    }

    /// The next frame; `None` at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, used)) = parse(&self.read) {
                self.read.drain(..used);
                return Some(frame);
            }
            if !self.read_more("a frame").await {
                return None;
            }
        }
    }

    /// The next text message.
    pub async fn message(&mut self) -> Value {
        loop {
            match self.next().await {
                Some((TEXT, payload)) => return serde_json::from_slice(&payload).unwrap(),
                Some(_) => {}
                None => panic!("the end instead of a message"),
            }
        }
    }

    /// The code of the Close frame, which has to come before the end.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            let (first, payload) = self.next().await?;
            if first == CLOSE {
                return payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
        }
    }
}

/// A frame of a client. The mask is of zeros, so that the payload stands as it is.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..0x1_0000 => {
            bytes.push(0xFE);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0xFF);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (len, head) = match second {
        126 => (
            usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
            4,
        ),
        127 => (
            u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize,
            10,
        ),
        // Masked, it would be larger than any of these.
        len => (usize::from(len), 2),
    };
    let payload = bytes.get(head..head + len)?;
    Some(((first, payload.to_vec()), head + len))
}
