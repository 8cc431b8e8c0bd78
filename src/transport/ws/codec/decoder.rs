//! Bytes of a client become messages (RFC 6455 sections 5 and 6.2).

use super::{
    close::{CloseFrame, Violation},
    frame::{self, Head, Opcode},
    message::{Assembly, Data},
};

/// What a connection takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inbound {
    /// The most bytes of a message, over all its fragments and after inflation. A longer one is refused with 1009.
    pub(crate) max_message: usize,
    /// Whether binary messages are taken; without, they are refused with 1003.
    pub(crate) binary: bool,
    /// Whether permessage-deflate was negotiated.
    pub(crate) deflate: bool,
}

/// What a client sent. Texts are valid UTF-8, compressed messages are inflated, the mask is off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<CloseFrame>),
}

/// The incremental decoder of one connection.
///
/// It may be fed pieces of any size. Between frames it owns no heap memory at all, so an idle connection costs the
/// size of this struct; the bytes are the caller's, who can read every connection of a thread into the same buffer.
///
/// After a Close frame or a violation it swallows whatever else comes: RFC 6455 section 1.4 has data after a Close
/// discarded, section 7.1.7 the same for a failed connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    inbound: Inbound,
    ended: bool,
    frames: u32,
    head: [u8; Head::MAX],
    head_len: u8,
    frame: Option<Frame>,
    assembly: Option<Assembly>,
    /// The payload of the control frame under way, which may come between the fragments of a message.
    control: Vec<u8>,
}

/// A frame whose head is known.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    mask: [u8; 4],
    left: u64,
}

impl Decoder {
    pub(crate) fn new(inbound: Inbound) -> Self {
        Self {
            inbound,
            ended: false,
            frames: 0,
            head: [0; Head::MAX],
            head_len: 0,
            frame: None,
            assembly: None,
            control: Vec::new(),
        }
    }

    /// Takes bytes from the front of `input`, which it unmasks in place, up to the end of the next message. Says how
    /// many it took; without a message, it took them all.
    ///
    /// # Errors
    /// The connection has to be failed with the violation's code. It comes at the first byte that cannot be part of
    /// anything valid, and only once.
    pub(crate) fn decode(
        &mut self,
        input: &mut [u8],
    ) -> Result<(usize, Option<Message>), Violation> {
        if self.ended {
            return Ok((input.len(), None));
        }
        let result = self.advance(input);
        if matches!(result, Err(_) | Ok((_, Some(Message::Close(_))))) {
            self.ended = true;
            self.frame = None;
            self.assembly = None;
            self.control = Vec::new();
        }
        result
    }

    /// How many frames have begun since this was last asked. Fragments and control frames cost work although they do
    /// not make messages: a limit on messages alone would not see them.
    pub(crate) fn take_frames(&mut self) -> u32 {
        std::mem::take(&mut self.frames)
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.control.capacity() + self.assembly.as_ref().map_or(0, Assembly::held)
    }

    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        self.held() == 0 && self.assembly.is_none() && self.frame.is_none()
    }

    fn advance(&mut self, input: &mut [u8]) -> Result<(usize, Option<Message>), Violation> {
        let mut used = 0;
        loop {
            let frame = match self.frame {
                Some(frame) => frame,
                None => {
                    let head = self.read_head(&input[used..], &mut used)?;
                    let Some(head) = head else {
                        return Ok((used, None));
                    };
                    self.begin(head)?
                }
            };

            let available = input.len() - used;
            // Where `left` does not fit a usize, `available` is the smaller one.
            let len = usize::try_from(frame.left).map_or(available, |left| left.min(available));
            let chunk = &mut input[used..used + len];
            frame::unmask(chunk, frame.mask);
            self.absorb(frame.opcode, chunk)?;
            used += len;

            let left = frame.left - len as u64;
            if left > 0 {
                self.frame = Some(Frame {
                    left,
                    mask: frame::rotated(frame.mask, len),
                    ..frame
                });
                return Ok((used, None));
            }
            self.frame = None;
            if let Some(message) = self.complete(frame)? {
                return Ok((used, Some(message)));
            }
        }
    }

    /// A head may come in pieces; what there is of it waits in the struct.
    fn read_head(&mut self, bytes: &[u8], used: &mut usize) -> Result<Option<Head>, Violation> {
        for &byte in bytes {
            // A head is complete at its fourteenth byte at the latest, and then the count starts again.
            self.head[usize::from(self.head_len)] = byte;
            self.head_len += 1;
            *used += 1;
            let so_far = &self.head[..usize::from(self.head_len)];
            if let Some(head) = Head::parse(so_far, self.inbound.deflate)? {
                self.head_len = 0;
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    /// Is this head legal here (section 5.4), and is there room for what it announces?
    fn begin(&mut self, head: Head) -> Result<Frame, Violation> {
        self.frames = self.frames.saturating_add(1);
        match (head.opcode, &self.assembly) {
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(Violation::protocol("message begins inside another one"));
            }
            (Opcode::Continuation, None) => {
                return Err(Violation::protocol("continuation of no message"));
            }
            (Opcode::Binary, None) if !self.inbound.binary => {
                return Err(Violation::unsupported("binary messages are not taken here"));
            }
            (Opcode::Text | Opcode::Binary, None) => {
                let text = head.opcode == Opcode::Text;
                self.assembly = Some(Assembly::new(text, head.deflated));
            }
            (Opcode::Continuation, Some(_)) | (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {}
        }
        if !head.opcode.is_control()
            && let Some(assembly) = &self.assembly
        {
            assembly.admit(head.len, self.inbound.max_message)?;
        }
        Ok(Frame {
            opcode: head.opcode,
            fin: head.fin,
            mask: head.mask,
            left: head.len,
        })
    }

    fn absorb(&mut self, opcode: Opcode, chunk: &[u8]) -> Result<(), Violation> {
        if opcode.is_control() {
            self.control.extend_from_slice(chunk);
        } else if let Some(assembly) = &mut self.assembly {
            assembly.push(chunk)?;
        }
        Ok(())
    }

    /// The last byte of a frame has come: is it the last of a message?
    fn complete(&mut self, frame: Frame) -> Result<Option<Message>, Violation> {
        let message = match frame.opcode {
            Opcode::Ping => Message::Ping(std::mem::take(&mut self.control)),
            Opcode::Pong => Message::Pong(std::mem::take(&mut self.control)),
            Opcode::Close => Message::Close(CloseFrame::parse(&std::mem::take(&mut self.control))?),
            Opcode::Text | Opcode::Binary | Opcode::Continuation if !frame.fin => return Ok(None),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let Some(assembly) = self.assembly.take() else {
                    return Ok(None);
                };
                match assembly.finish(self.inbound.max_message)? {
                    Data::Text(text) => Message::Text(text),
                    Data::Binary(bytes) => Message::Binary(bytes),
                }
            }
        };
        Ok(Some(message))
    }
}
