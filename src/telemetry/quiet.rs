//! Quiet: what is logged while we deliver is about the delivery of the very lines that are logged. Each of them would
//! be the cause of the next.
//!
//! Two ways to be quiet: for a while on this thread, and for good on a task that serves one of our streams. The second
//! reaches what a server, a TLS library or a layer of the host's says behind our back: the socket is written when our
//! part of the task has returned.
//!
//! Neither reaches the task that writes an HTTP/2 connection. It polls no body of ours, the service may be called on
//! another one (it is, by hyper-util's adapter), and it writes for the host's own streams as well. What can't be told from
//! the host's lines is told: holding back by a guess would lose some of these. The host leaves such a target out by name.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{
        LazyLock, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::task;

use crate::middleware::OwnStream;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// How many streams each task serves: one, unless a server has its own idea of tasks. Bounded by `max_clients`.
static SERVING: LazyLock<RwLock<HashMap<task::Id, u32>>> = LazyLock::new(RwLock::default);
/// How many tasks there are, so that a line costs no lock while nobody looks. Relaxed: it orders nothing.
static TASKS: AtomicUsize = AtomicUsize::new(0);

/// Nothing that is logged on this thread is recorded while one of these lives.
#[derive(Debug)]
#[must_use]
pub(crate) struct Quiet(());

impl Quiet {
    #[inline]
    pub(crate) fn enter() -> Self {
        if cfg!(feature = "tracing") {
            DEPTH.set(DEPTH.get() + 1);
        }
        Self(())
    }
}

impl Drop for Quiet {
    #[inline]
    fn drop(&mut self) {
        if cfg!(feature = "tracing") {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
}

/// Whether a line that is logged here and now is about our own work.
#[cfg(feature = "tracing")]
pub(crate) fn is_quiet() -> bool {
    if DEPTH.get() > 0 {
        return true;
    }
    if TASKS.load(Ordering::Relaxed) == 0 {
        return false;
    }
    let serving = SERVING.read().unwrap_or_else(PoisonError::into_inner);
    task::try_id().is_some_and(|task| serving.contains_key(&task))
}

/// A body of ours, whose task is quiet until it is dropped. Without the feature `tracing` nobody listens.
pub(crate) fn quiet(body: impl OwnStream) -> impl OwnStream {
    #[cfg(feature = "tracing")]
    let body = QuietBody::new(body);
    body
}

/// See [`quiet`].
#[derive(Debug)]
pub(crate) struct QuietBody<B> {
    body: B,
    task: Option<task::Id>,
}

impl<B> QuietBody<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, task: None }
    }

    /// Servers poll a body on the task that writes it.
    #[inline]
    fn settle(&mut self) {
        let here = task::try_id();
        if self.task == here {
            return;
        }
        self.leave();
        self.task = here;
        if let Some(task) = here {
            let mut serving = SERVING.write().unwrap_or_else(PoisonError::into_inner);
            *serving.entry(task).or_default() += 1;
            TASKS.store(serving.len(), Ordering::Relaxed);
        }
    }

    fn leave(&mut self) {
        let Some(task) = self.task.take() else {
            return;
        };
        let mut serving = SERVING.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(streams) = serving.get_mut(&task) {
            *streams -= 1;
            if *streams == 0 {
                serving.remove(&task);
            }
        }
        TASKS.store(serving.len(), Ordering::Relaxed);
    }
}

impl<B: OwnStream> OwnStream for QuietBody<B> {
    #[inline]
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.settle();
        let _quiet = Quiet::enter();
        self.body.poll_bytes(cx)
    }
}

impl<B> Drop for QuietBody<B> {
    fn drop(&mut self) {
        self.leave();
    }
}
