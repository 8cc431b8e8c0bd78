//! How events reach their readers: pace, buffers, what is kept for those who come back.

use std::time::Duration;

use super::super::RealtimeConfig;

/// Streams.
impl RealtimeConfig {
    /// See [`heartbeat_interval`](Self::heartbeat_interval).
    pub const DEFAULT_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
    /// See [`client_timeout`](Self::client_timeout).
    pub const DEFAULT_CLIENT_TIMEOUT: Duration = Duration::from_secs(5 * 60);
    /// See [`stall_timeout`](Self::stall_timeout).
    pub const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_secs(20);
    /// See [`flush_interval`](Self::flush_interval).
    pub const DEFAULT_FLUSH_INTERVAL: Duration = Duration::from_millis(20);
    /// See [`buffer_size`](Self::buffer_size).
    pub const DEFAULT_BUFFER_SIZE: usize = 100;
    /// See [`replay_capacity`](Self::replay_capacity).
    pub const DEFAULT_REPLAY_CAPACITY: usize = 4096;
    /// See [`replay_bytes`](Self::replay_bytes).
    pub const DEFAULT_REPLAY_BYTES: usize = 8 << 20;
    /// See [`replay_age`](Self::replay_age).
    pub const DEFAULT_REPLAY_AGE: Duration = Duration::from_secs(60 * 60);
    /// See [`inbox_capacity`](Self::inbox_capacity).
    pub const DEFAULT_INBOX_CAPACITY: usize = 8192;

    /// How often each stream gets a `heartbeat` event. Takes 10 ms to 1 h. Defaults to 15 s.
    ///
    /// Longer: fewer bytes and wake-ups an idle stream, but proxies that cut idle connections (often after 30 or
    /// 60 s) may cut it, and a client that vanished is noticed later. Shorter: the other way round.
    #[must_use]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// After how long a stream that has taken nothing at all, not even a heartbeat, is ended and its place given to
    /// others. Takes 100 ms to 1 d. Defaults to 5 min.
    ///
    /// Longer: a vanished client keeps its place for longer. Shorter: clients on bad networks have to reconnect more
    /// often. Below [`heartbeat_interval`](Self::heartbeat_interval) quiet streams end between two heartbeats.
    #[must_use]
    pub fn client_timeout(mut self, timeout: Duration) -> Self {
        self.client_timeout = timeout;
        self
    }

    /// After how long a reader is let go that has events waiting and takes none of them. Takes 100 ms to 1 h.
    /// Defaults to 20 s.
    ///
    /// Events are taken when a good part of the socket's buffer is free again: behind the guarded listener, a client
    /// that reads less than some 5 to 10 kB a second of a busy stream is let go although it reads. The guide on slow
    /// readers says more.
    ///
    /// Longer: a stalled reader keeps its connection, and the bytes that its socket has already been handed. Shorter:
    /// a laptop that sleeps for a moment has to reconnect and resume.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// For how long events are collected before they go out together. The first event after a quiet time goes out at
    /// once. Takes 0 to 1 min. Defaults to 20 ms.
    ///
    /// Longer: fewer writes (ten events in one write cost an eighth of ten writes), and events arrive later. `0`:
    /// every event is written as soon as it is there.
    #[must_use]
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush_interval = interval;
        self
    }

    /// Whether streams, JSON answers and the page's files are compressed with gzip for clients that accept it, where the
    /// crate was built with the feature `compression`. Defaults to `false`.
    ///
    /// On: streams shrink to an eighth (snapshots 0.13 of the plain bytes, single requests 0.14, everything 0.11). Events
    /// are compressed once for all readers of the same channels, filter and tenant, so what it costs does not grow with
    /// them: one compressor of about 320 KB for each set of channels that is read compressed without a filter (32 at
    /// most; sets with one reader have half of them), and one a thread.
    ///
    /// What a reader has for itself is compressed only as far as the host has time to spare: 4 MiB of events a second
    /// for all such readers together, about a twentieth of a core, where those who share an event share its price. That
    /// concerns a replay (`since`, `Last-Event-ID`), a reader with a `max_rate` or a filter that nobody else has, one
    /// that is behind, and JSON answers (from 1 KiB on). Each begins with up to 1 MiB at once, so a short absence
    /// is replayed compressed. What is beyond goes out in the same gzip stream as it is, with 5 bytes for each 64 KiB:
    /// nobody can make the host compress without end. `compression.made.stored` in `hub/stats` counts such blocks. What a
    /// reader has for itself, and what has a filter, shares no past with other events, and shrinks less.
    ///
    /// # Secrets
    ///
    /// Compression shortens what is guessed right. Somebody who can make requests, so that text of their choice (a user's
    /// name, a model, an error message, a log line) appears in an event, and who also sees how many bytes a viewer's
    /// encrypted stream has, can guess, try by try, what other events of the same stream show (CRIME, BREACH). Events of
    /// up to 30 seconds, of all channels of a stream, are compressed together, `logs` and foreign text included: they are
    /// most of what there is to compress, and any channel of the host's can hold such text as well. What bounds it:
    ///
    /// - the crate compresses no secret of its own: reconnect tokens and tickets never are;
    /// - request events hold no headers, bodies, paths or queries; routes are templates;
    /// - a viewer who is bound to a tenant gets a stream with events of that tenant alone. Others' text meets a
    ///   tenant's events only in the streams of viewers who see all tenants.
    ///
    /// So leave it off where your own events or log lines hold secrets beside text of strangers: credentials that end up
    /// in an error message or a log line, say. A client that asks for no gzip (`Accept-Encoding: identity`) is never
    /// compressed. For WebSockets it is [`ws_deflate`](Self::ws_deflate) that decides.
    #[must_use]
    pub fn compression(mut self, on: bool) -> Self {
        self.compression = on;
        self
    }

    /// How many undelivered events a reader may have before it counts as lagging and loses the less important ones.
    /// Takes 1 to 1,000,000. Defaults to 100.
    ///
    /// It counts only for a reader that has let an event wait for a quarter of
    /// [`stall_timeout`](Self::stall_timeout), so bursts and replays reach everybody whole. Then the oldest events of
    /// [low](crate::Priority::Low), and after them of normal priority, are skipped and reported as `gap`; high and
    /// critical ones are not, and critical ones are handed over first. More than 1 MiB is too much as well, however few
    /// events it is.
    ///
    /// Higher: slow readers get more, and their streams run further behind. Lower: they see gaps sooner and stay closer
    /// to now. It reserves no memory: events lie in the log of their channel, once for all.
    #[must_use]
    pub fn buffer_size(mut self, events: usize) -> Self {
        self.buffer_size = events;
        self
    }

    /// How many events each channel keeps for readers that come back. Takes 1 to 10,000,000. Defaults to 4096.
    ///
    /// Higher: longer interruptions are resumed without a gap, for memory. The first of this,
    /// [`replay_bytes`](Self::replay_bytes) and [`replay_age`](Self::replay_age) that is reached decides.
    #[must_use]
    pub fn replay_capacity(mut self, events: usize) -> Self {
        self.replay_capacity = events;
        self
    }

    /// How many bytes of events each channel keeps: the ceiling of its memory. Takes 64 KiB to 1 GiB. Defaults to
    /// 8 MiB.
    #[must_use]
    pub fn replay_bytes(mut self, bytes: usize) -> Self {
        self.replay_bytes = bytes;
        self
    }

    /// For how long each channel keeps an event. Takes 1 s to 30 d. Defaults to 1 h.
    #[must_use]
    pub fn replay_age(mut self, age: Duration) -> Self {
        self.replay_age = age;
        self
    }

    /// How many published events may wait for the hub's task. Takes 16 to 1,000,000. Defaults to 8192.
    ///
    /// Publishing never waits: what finds the inbox full is refused and counted. Higher: larger bursts fit, for
    /// memory while they last.
    #[must_use]
    pub fn inbox_capacity(mut self, events: usize) -> Self {
        self.inbox_capacity = events;
        self
    }
}
