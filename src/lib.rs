//! Live traffic for any axum or tower service.
//!
//! One layer records every request (route, status, latency to the last byte, sizes, and for AI gateways provider,
//! model, user, tokens and cost), aggregates it over rolling windows, and serves what it sees: as Server-Sent Events,
//! as JSON, and as a page that is built into the binary. The host is never slowed, never changed, never left hanging
//! at shutdown.
//!
//! ```no_run
//! # #[cfg(feature = "axum")] mod example {
//! use std::net::SocketAddr;
//!
//! use axum::{Router, routing::get};
//! use tower_realtime::{Access, RealtimeConfig, RealtimeLayer};
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let realtime = RealtimeLayer::new(RealtimeConfig::new(Access::loopback()));
//!     let rt = realtime.handle();
//!     let app = Router::new().route("/hello", get(|| async { "hello" })).layer(realtime);
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     axum::serve(rt.guard(listener), app.into_make_service_with_connect_info::<SocketAddr>()).await
//! }
//! # }
//! ```
//!
//! Handlers say what they know through a [`RequestMeter`]; everything else goes through the [`RealtimeHandle`].
//!
//! # What it answers
//!
//! | path | what |
//! |---|---|
//! | `/realtime/` | the page (feature `dashboard`) |
//! | `/stream/{channel}`, `/stream?channels=a,b` | Server-Sent Events: `stats`, `logs`, `providers`, `requests`, `alerts`, `system`, the host's own channels, `all` |
//! | `/stream/reconnect?token=` | the subscription and the position of an earlier stream |
//! | `/ws/{channel}`, `/ws`, `/ws/tenant/{id}`, `/ws/reconnect?token=` | the same over WebSocket (feature `ws`) |
//! | `/api/realtime/…` | `info`, `metrics`, `series`, `breakdown`, `errors`, `slow`, `providers[/{id}[/metrics]]`, `overview`, `requests`, `hub/stats`, `connections[/{id}]`, `broadcast`, `test-connection`, `ticket`, `health/live`, `health/ready` |
//!
//! Mount points are settings. Everything else is the host's: whole segments are matched, `/streams` is not ours.
//! Streams resume at a [`Position`]: one number for any set of channels, by `Last-Event-ID`, `since` or
//! `lastEventId`. What is no longer held is reported in band as a `gap`.
//!
//! The crate fills its own channels, all but `alerts`, which is there for the host: what
//! `rt.publish(Event::new("alerts", "alert", &…))` says is critical, so it is kept longest and delivered first.
//!
//! `POST connections/{id}/subscribe` and `unsubscribe` (`{"channels": […], "filter": {…}}`, by whoever opened the
//! connection or by an admin; those who share an id, as anonymous viewers and all holders of one bearer token do, show
//! the connection's reconnect token in `x-reconnect-token` or in the body) change what an open connection reads, from its next event on. Their answer has the
//! channels and a new reconnect token. The stream itself is not told, no event stands for that; when it reconnects by
//! its URL, it has the channels of its URL again, and by any of its reconnect tokens those that it was given.
//! `POST test-connection` sends a probe through the hub in the form of `connection_type`, `sse` (also of an empty body) or
//! `websocket`. `info` lists under `features` what is compiled in, and under `transports` what is switched on,
//! with the types of events and messages, and what a WebSocket may agree on;
//! `metrics` says under `feed.skipped` how many rows of requests were never streamed because whoever publishes them
//! fell behind (they are counted in every number all the same).
//!
//! A parameter that means something is never passed over: a value that is not taken (an empty one, too), one that is
//! given twice, and one that this path does not look at although another does (`limit` on a stream, `window` on a
//! list) are 400 with the name and what is taken. Names that mean nothing anywhere, such as `_=1795236984` against
//! caches, are nobody's business, and are not kept. A position is never an error: the first one counts, one that can't
//! be read is unknown, and the stream says `lost`. Nor is a reconnect token beside channels (without any it is 410), nor a ticket where other
//! credentials suffice. `series` takes any of its steps for any range, and where it keeps no points that fine, the
//! `step` in the answer is the one that it took.
//!
//! # WebSocket
//!
//! Messages are `{"type", "timestamp", "data", "id", "channel"}`, as text, or as MessagePack with the subprotocol
//! `msgpack`; deflated once for all who agree on it ([`RealtimeConfig::ws_deflate`]). A client sends `subscribe` and
//! `unsubscribe` (`{"data": {"channels": […], "filter": {…}}}`), `resume` (`{"data": {"since": "…"}}`), `auth`
//! (`{"data": {"token": "…"}}`), `ping` and `pong`. There is one filter, and it is the connection's: a new one replaces the
//! whole of the one before, for all channels. What is not known, a channel, a criterion or a member, is answered by an
//! `error` that names it and what is taken. The [guide](guide::websocket) has the types. Whoever comes without credentials has ten seconds for `auth`.
//! What a reconnect token can't hold, a subscription of more than about 280 bytes, has `"reconnect_token": null`:
//! subscribe again, and resume by the last `id`.
//!
//! Close codes say whether to come back: 1001 (shutdown, after a `drain` that says when) and 1013 later, 40xx not
//! with these credentials (4001 not valid, 4003 not allowed, 4008 ended by an admin, 4009 taken over by another
//! connection of the same session), 41xx after a while (4101 too slow or silent, 4102 too many messages), 42xx at once.
//! 1012 is never sent: no server knows that it will come back.
//!
//! # Where the layer goes
//!
//! Add it **last, on the outermost router**, with a custom fallback set before it. Our paths are hidden by what is
//! merged, nested or set as a fallback afterwards, and by `route_layer`; recording works all the same.
//! [`RealtimeLayer::routes`] is the way out: a service with the paths alone, to be mounted where you like.
//! Around a finished router, `axum::serve` also wants `axum::middleware::ResponseAxumBodyLayer` outermost, and route
//! templates are not seen (name them with [`RealtimeConfig::route_label`] or [`RequestMeter::route`]).
//!
//! # Configuration
//!
//! [`RealtimeConfig`]: setters, a file through serde, the environment. A wrong value names the setting and what it
//! takes.
//!
//! # Access
//!
//! Who may look is the first argument: [`Access::loopback`], [`Access::bearer`], [`Access::check`],
//! `Access::jwt` (feature `jwt`) or [`Access::public`]. A viewer of a tenant sees that tenant's events and numbers
//! only, and the keys of a [state](ChannelConfig::state) channel are each tenant's own; what changes anything needs an
//! admin under every policy. Browsers can't send headers with EventSource: a cookie works by itself, a token is
//! exchanged for a single-use ticket.
//!
//! # Shutdown
//!
//! An open stream holds a graceful shutdown for ever. Give [`RealtimeConfig::shutdown`] the token that ends the
//! server, or call [`RealtimeHandle::drain`]: every stream ends with an event that says when to come back. The
//! background tasks end with it, or with the last layer, service and handle. The server waits for sockets that are not
//! ours to end as well, so put a limit around its own end: [`RealtimeConfig::shutdown`] shows how. Behind a load balancer, drain first and
//! stop the server afterwards: `health/ready` is 503 as soon as the drain has begun, and somebody has to answer it.
//! While it lasts nobody can join, and those who have not been sent away yet are told what comes, as ever.
//!
//! # How a stream ends
//!
//! Before the server ends a stream or socket on purpose, it sends a `drain`: `{"reason", "retry_ms"}`, over SSE with a
//! `retry:` of the same time, one to three seconds. A socket's has no `retry_ms` where the same client is not to come back.
//! Its `id` is where the client stands: what it was not sent before the end lies behind that, and comes when it resumes
//! from there. At a shutdown it is sent what is critical first.
//!
//! | `reason` | why | come back |
//! |---|---|---|
//! | `shutdown` | the host shuts down or drains | after `retry_ms` |
//! | `stalled` | it made no progress for [`RealtimeConfig::stall_timeout`] ([slow readers](guide::slow_readers)); told only if it reads again | after `retry_ms`, with its position |
//! | `max_age` | it has reached [`RealtimeConfig::max_age`] | at once, with its position |
//! | `expired` | its credentials have run out | with newer ones |
//! | `kicked` | an admin has ended it | no |
//! | `replaced` | its session goes on in another connection, which brought its reconnect token | no |
//!
//! SSE has no other way than the reason to say that a client should stay away: an EventSource comes back by itself after
//! `retry:`, unless its page closes it. One that was kicked is in again after that, unless its access is taken away; and
//! two clients that share one reconnect token and come back at each `replaced` take the session from each other for
//! ever. A connection that breaks without a `drain` may come back at any time, with its position.
//!
//! Where there is no room, the answer is 429 or 503 in JSON, with `Retry-After`. An EventSource closes for good at any
//! status but 200, so a browser's (`Accept: text/event-stream` with `Sec-Fetch-Mode`) gets 200, `retry:` and a single
//! event `busy` (`{"retry_ms"}`), and comes back by itself. It looks the same when the server is shutting down, when
//! [`Access::check`] says [`Denied::unavailable`], and when too many different windows and intervals are watched: whoever
//! refuses a stream for now, it is told in this way.
//!
//! # How it works
//!
//! A request ends in one self-contained record, which goes into a lock-free, bounded queue. One task drains it into
//! windows, percentiles and breakdowns; a full queue makes the list of rows shorter, never a number wrong. The hub
//! is one sequence of events with a bounded log per channel. A reader is a cursor: replay and live are the same
//! read, readers at the same place share the same bytes, and one that does not read costs its cursor and delays
//! nobody. An event is encoded when the first reader wants it, once.
//!
//! # Limits
//!
//! Numbers live in this process and start from zero with it. Browsers open six HTTP/1.1 connections to a host: use
//! one stream with several channels, or HTTP/2. Proxies that buffer hold events back; `x-accel-buffering: no` is
//! sent, others must be told.
//!
//! # Guides
//!
//! [Behind a proxy](guide::behind_a_proxy), [who may look](guide::who_may_look), [slow readers](guide::slow_readers),
//! [WebSocket](guide::websocket).
//!
//! # Features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `axum` | yes | route templates, the [`RequestMeter`] extractor, `RealtimeHandle::guard` for `axum::serve` |
//! | `dashboard` | yes | the page under `/realtime/` |
//! | `compression` | | gzip for streams, JSON and the page's files, where [`RealtimeConfig::compression`] asks for it |
//! | `jwt` | | `Access::jwt` |
//! | `tracing` | | `RealtimeHandle::tracing_layer`: the host's own log lines as `log` events |
//! | `ws` | | WebSocket under `/ws/` |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
mod aggregator;
mod clock;
mod collector;
mod config;
mod error;
#[cfg(feature = "axum")]
mod guard;
#[cfg(any(doc, doctest))]
pub mod guide;
mod handle;
mod hub;
mod json_line;
mod layer;
mod middleware;
mod one_line;
mod price;
mod publish;
mod refusal;
mod runtime;
mod sync;
mod telemetry;
mod transport;

pub use access::{Access, Cors, Denied, PeerAddr, Principal, Role};
#[cfg(feature = "jwt")]
pub use access::{JwtConfig, JwtKey};
pub use aggregator::{ProviderStatus, Snapshot, Window};
pub use config::RealtimeConfig;
pub use error::Error;
#[cfg(feature = "axum")]
pub use guard::{Guarded, GuardedListener, GuardedSocket};
pub use handle::{Events, ProviderBuilder, RealtimeHandle, Received};
pub use hub::{ChannelConfig, Class, Filter, Level, LevelFilter, Position, Priority, Start};
pub use layer::{RealtimeLayer, RealtimeRoutes};
pub use middleware::{RealtimeService, RequestMeter, ResponseBody, ResponseFuture, Usage};
pub use price::{Price, PriceTable};
pub use publish::{Event, LogLine, MAX_EVENT_BYTES};

/// What a [`Snapshot`] is made of.
pub mod snapshot {
    pub use crate::aggregator::{
        BreakdownRow, Capabilities, Feed, Latencies, Lifetime, Percentiles, ProviderStats,
        SeriesPoint, SeriesUse, StatusCode, Summary, TableUse,
    };
}
