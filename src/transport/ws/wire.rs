//! Wire: bytes in and out of an upgraded connection.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use hyper::{
    rt::{Read, ReadBuf, Write},
    upgrade::Upgraded,
};

/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;
/// How many pieces are written at once.
const WRITE_PIECES: usize = 16;

thread_local! {
    /// All connections of a thread read into the same buffer: an idle one has none.
    static INPUT: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Wire {
    io: Upgraded,
    out: VecDeque<Bytes>,
    queued: usize,
    dirty: bool,
}

impl Wire {
    pub(super) fn new(io: Upgraded) -> Self {
        Self {
            io,
            out: VecDeque::new(),
            queued: 0,
            dirty: false,
        }
    }

    /// Bytes that wait for the socket.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Everything has been handed to the transport below.
    pub(super) fn is_flushed(&self) -> bool {
        self.queued == 0 && !self.dirty
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.queued += bytes.len();
            self.out.push_back(bytes);
        }
    }

    /// Writes what there is; true when anything moved.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut moved = false;
        while self.queued > 0 {
            let mut pieces = [IoSlice::new(&[]); WRITE_PIECES];
            let count = self.out.len().min(WRITE_PIECES);
            for (piece, bytes) in pieces.iter_mut().zip(&self.out) {
                *piece = IoSlice::new(bytes);
            }
            let io = Pin::new(&mut self.io);
            let wrote = match count > 1 && io.is_write_vectored() {
                true => io.poll_write_vectored(cx, &pieces[..count]),
                false => io.poll_write(cx, &pieces[0]),
            };
            match wrote {
                Poll::Pending => {
                    return if moved {
                        Poll::Ready(Ok(true))
                    } else {
                        Poll::Pending
                    };
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(wrote)) => {
                    moved = true;
                    self.dirty = true;
                    self.wrote(wrote);
                }
            }
        }
        if self.dirty {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Pending => {
                    return if moved {
                        Poll::Ready(Ok(true))
                    } else {
                        Poll::Pending
                    };
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => self.dirty = false,
            }
        }
        Poll::Ready(Ok(moved))
    }

    fn wrote(&mut self, mut bytes: usize) {
        self.queued -= bytes;
        while let Some(front) = self.out.front_mut() {
            if bytes < front.len() {
                front.advance(bytes);
                return;
            }
            bytes -= front.len();
            self.out.pop_front();
        }
        // Nothing waits most of the time, and then nothing is held either.
        self.out = VecDeque::new();
    }

    /// Reads what has come into the buffer of the thread.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Input>> {
        INPUT.with_borrow_mut(|buffer| {
            let mut filled = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.io).poll_read(cx, filled.unfilled()))?;
            let len = filled.filled().len();
            Poll::Ready(Ok(Input(len)))
        })
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What a read has put into the thread's buffer. Used up before anything else reads.
#[derive(Debug)]
pub(super) struct Input(usize);

impl Input {
    pub(super) fn is_end(&self) -> bool {
        self.0 == 0
    }

    pub(super) fn with<T>(self, take: impl FnOnce(&mut [u8]) -> T) -> T {
        INPUT.with_borrow_mut(|buffer| take(&mut buffer[..self.0]))
    }
}
