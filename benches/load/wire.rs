//! Enough of HTTP/1.1, SSE and WebSocket to count events: what a well-behaved server sends, and no more.

use memchr::{memchr, memmem};

use super::tally::Tally;

/// How the data of an event begins; see [`super::server::Payload`].
const STAMP: &[u8] = b"{\"t\":";

/// One connection's way from bytes to events.
#[derive(Debug)]
pub(crate) struct Decoder {
    framing: Framing,
    /// A head, line or frame that has not ended yet.
    carry: Vec<u8>,
    /// A WebSocket's ping that has not been answered.
    pinged: bool,
    events: Events,
}

#[derive(Debug)]
struct Events {
    /// The number of the last event.
    last: Option<u64>,
    /// The last `id:`.
    id: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Head,
    /// Chunked: so many bytes of this chunk are to come.
    Chunk(usize),
    /// The length of the next chunk, with the line break before it.
    Length(usize),
    Lines,
    Frames,
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// The head, with what was asked for.
    Accepted,
    Refused,
    More,
}

impl Decoder {
    /// Of a connection on which a request was sent.
    pub(crate) fn of_connection() -> Self {
        Self::new(Framing::Head)
    }

    /// Of a body whose framing is somebody else's.
    pub(crate) fn of_body() -> Self {
        Self::new(Framing::Lines)
    }

    fn new(framing: Framing) -> Self {
        let events = Events {
            last: None,
            id: Vec::new(),
        };
        Self {
            framing,
            carry: Vec::new(),
            pinged: false,
            events,
        }
    }

    /// For the next connection: what has been seen stays known.
    pub(crate) fn reconnect(&mut self) {
        self.framing = Framing::Head;
        self.carry.clear();
    }

    /// What a ping wants to be answered with; who never says anything is let go.
    pub(crate) fn take_pong(&mut self) -> Option<&'static [u8]> {
        std::mem::take(&mut self.pinged).then_some(&[0x8a, 0x80, 0, 0, 0, 0])
    }

    pub(crate) fn last_id(&self) -> &[u8] {
        &self.events.id
    }

    pub(crate) fn last_number(&self) -> Option<u64> {
        self.events.last
    }

    pub(crate) fn feed(&mut self, mut bytes: &[u8], now: u64, tally: &mut Tally) -> Fed {
        let mut fed = Fed::More;
        while !bytes.is_empty() {
            match self.framing {
                Framing::Head => {
                    self.carry.extend_from_slice(bytes);
                    let Some(end) = memmem::find(&self.carry, b"\r\n\r\n") else {
                        return Fed::More;
                    };
                    let head = String::from_utf8_lossy(&self.carry[..end]).to_lowercase();
                    bytes = &bytes[bytes.len() - (self.carry.len() - end - 4)..];
                    self.carry.clear();
                    self.framing = if head.starts_with("http/1.1 101 ") {
                        Framing::Frames
                    } else if !head.starts_with("http/1.1 200 ") {
                        return Fed::Refused;
                    } else if head.contains("transfer-encoding: chunked") {
                        Framing::Length(0)
                    } else {
                        Framing::Lines
                    };
                    fed = Fed::Accepted;
                }
                Framing::Length(length) => {
                    let (byte, rest) = (bytes[0], &bytes[1..]);
                    bytes = rest;
                    self.framing = match char::from(byte).to_digit(16) {
                        Some(digit) => Framing::Length(length * 16 + digit as usize),
                        None if byte == b'\n' && length > 0 => Framing::Chunk(length),
                        None => Framing::Length(length),
                    };
                }
                Framing::Chunk(left) => {
                    let (now_here, rest) = bytes.split_at(left.min(bytes.len()));
                    bytes = rest;
                    self.lines(now_here, now, tally);
                    self.framing = match left - now_here.len() {
                        0 => Framing::Length(0),
                        left => Framing::Chunk(left),
                    };
                }
                Framing::Lines => {
                    self.lines(bytes, now, tally);
                    return fed;
                }
                Framing::Frames => {
                    self.frames(bytes, now, tally);
                    return fed;
                }
            }
        }
        fed
    }

    fn lines(&mut self, mut bytes: &[u8], now: u64, tally: &mut Tally) {
        while let Some(end) = memchr(b'\n', bytes) {
            if self.carry.is_empty() {
                self.events.line(&bytes[..end], now, tally);
            } else {
                self.carry.extend_from_slice(&bytes[..end]);
                self.events.line(&self.carry, now, tally);
                self.carry.clear();
            }
            bytes = &bytes[end + 1..];
        }
        self.carry.extend_from_slice(bytes);
    }

    /// From a server: never masked. Each holds one message.
    fn frames(&mut self, bytes: &[u8], now: u64, tally: &mut Tally) {
        self.carry.extend_from_slice(bytes);
        let mut rest = &self.carry[..];
        while let [first, length, ..] = *rest {
            let (start, length) = match (length & 0x7f, rest) {
                (126, [_, _, a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
                (126 | 127, _) => break,
                (length, _) => (2, usize::from(length)),
            };
            let Some(payload) = rest.get(start..start + length) else {
                break;
            };
            self.pinged |= first & 0x0f == 9;
            if let Some(at) = memmem::find(payload, STAMP) {
                self.events.stamp(&payload[at..], now, tally);
            }
            rest = &rest[start + length..];
        }
        let done = self.carry.len() - rest.len();
        self.carry.drain(..done);
    }
}

impl Events {
    fn line(&mut self, line: &[u8], now: u64, tally: &mut Tally) {
        if let Some(data) = line.strip_prefix(b"data: ") {
            if data.starts_with(STAMP) {
                self.stamp(data, now, tally);
            }
        } else if let Some(id) = line.strip_prefix(b"id: ") {
            self.id.clear();
            self.id.extend_from_slice(id);
        } else if line == b"event: gap" {
            tally.gaps += 1;
        } else if line == b"event: drain" {
            tally.endings.push(now);
        }
    }

    /// `{"t":<nanoseconds>,"n":<number>,…`
    fn stamp(&mut self, data: &[u8], now: u64, tally: &mut Tally) {
        let (sent, rest) = digits(&data[STAMP.len()..]);
        let (number, _) = digits(rest.strip_prefix(b",\"n\":").unwrap_or_default());
        tally.event(&mut self.last, number, sent, now);
    }
}

fn digits(bytes: &[u8]) -> (u64, &[u8]) {
    let mut number = 0;
    let mut length = 0;
    while let Some(digit @ b'0'..=b'9') = bytes.get(length) {
        number = number * 10 + u64::from(digit - b'0');
        length += 1;
    }
    (number, &bytes[length..])
}
