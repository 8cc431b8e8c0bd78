//! Warnings: what a host should know about how it is set up, and what only shows while it runs. Each is told once.

use std::time::Duration;

use crate::{
    hub::{Hub, Level},
    sync::{AtomicBool, Ordering},
};

/// What has been told, and what has been seen that makes it unnecessary.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    guarded: AtomicBool,
    unguarded_told: AtomicBool,
    nameless_told: AtomicBool,
}

/// One that is to be told now.
#[derive(Debug)]
pub(crate) struct Warning {
    pub(crate) component: &'static str,
    pub(crate) message: String,
}

impl Warnings {
    /// A listener is guarded. With several, the host knows of the guard at least.
    #[cfg(feature = "axum")]
    pub(crate) fn guarded(&self) {
        self.guarded.store(true, Ordering::Relaxed);
    }

    /// Streams were let go because nobody polled them: something below them does not notice a peer that does not read.
    pub(crate) fn stalled(&self, streams: u64, stall_timeout: Duration) -> Option<Warning> {
        if streams == 0 || self.guarded.load(Ordering::Relaxed) {
            return None;
        }
        first(&self.unguarded_told).then(|| Warning {
            component: "guard",
            message: format!(
                "a viewer took nothing for {stall_timeout:?} and its stream was let go, but its socket stays open, and \
                 holds up a graceful shutdown, for as long as its peer likes: serve rt.guard(listener) (feature axum) in place of \
                 listener, which has the kernel give up such sockets after stall_timeout (TCP_USER_TIMEOUT), or set that \
                 on the sockets that you accept yourself"
            ),
        })
    }

    /// Clients are to be counted by an address that a request does not have.
    pub(crate) fn nameless(&self) -> Option<Warning> {
        first(&self.nameless_told).then(|| Warning {
            component: "limits",
            message: "max_clients_per_ip is set, but a request came without its peer's address and is not counted by it: \
                      serve app.into_make_service_with_connect_info::<SocketAddr>(), or add PeerAddr to the extensions of \
                      each request"
                .to_owned(),
        })
    }
}

/// True once. Relaxed: nothing is handed over by it. The load keeps a busy path from writing.
fn first(told: &AtomicBool) -> bool {
    !told.load(Ordering::Relaxed) && !told.swap(true, Ordering::Relaxed)
}

impl Warning {
    /// Tells the host's own log, where there is one, and whoever reads `logs`. The layer that turns the first into the
    /// second leaves our targets out, so it is there once, and feeds on nothing.
    pub(crate) fn tell(self, hub: &Hub, logs: crate::hub::ChannelId, unix_ms: u64) {
        let Self { component, message } = self;
        #[cfg(feature = "tracing")]
        tracing::warn!(target: "tower_realtime", component, "{message}");
        let line = crate::publish::LogLine::new(Level::Warn, component, message);
        // What the inbox does not take is counted there.
        let _ = hub.publish(logs, std::sync::Arc::new(line.stamp(unix_ms)));
    }
}
