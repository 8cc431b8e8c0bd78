//! Kinds: what the crate says by itself, and what it listens to. Hosts' own types come beside these.

/// The events of a stream.
pub(crate) const EVENTS: [&str; 12] = [
    "connection_established",
    "stats",
    "logs",
    "log",
    "providers",
    "provider_status",
    "requests",
    "system",
    "heartbeat",
    "gap",
    "drain",
    "busy",
];

/// The messages of a WebSocket.
pub(crate) const MESSAGES_OUT: [&str; 15] = [
    "connection_established",
    "stats_update",
    "logs",
    "log",
    "providers",
    "provider_status",
    "request",
    "system",
    "ping",
    "pong",
    "subscribed",
    "unsubscribed",
    "gap",
    "drain",
    "error",
];

/// The messages of its client.
pub(crate) const MESSAGES_IN: [&str; 6] =
    ["subscribe", "unsubscribe", "ping", "pong", "auth", "resume"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::check_event_type;

    #[test]
    fn no_host_can_say_what_we_say() {
        for kind in EVENTS.iter().chain(&MESSAGES_OUT) {
            assert!(check_event_type(kind).is_err(), "{kind}");
        }
    }
}
