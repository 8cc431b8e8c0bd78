//! Loopback: whether a request comes from this machine, and from no page of another.

use std::net::IpAddr;

use http::request::Parts;

use crate::{
    access::{
        origin::{Origins, host_of},
        peer::{forwarding_header, peer_ip},
        principal::Principal,
    },
    refusal::Refusal,
};

/// An admin, or which of the conditions does not hold.
pub(super) fn loopback(parts: &Parts, origins: &Origins) -> Result<Principal, Refusal> {
    let Some(peer) = peer_ip(parts) else {
        return Err(Refusal::not_loopback(
            "peer_unknown",
            "Access::loopback() needs the peer's address: serve with \
             axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()), \
             or insert tower_realtime::PeerAddr into the request's extensions",
        ));
    };
    if !peer.is_loopback() {
        return Err(Refusal::not_loopback(
            "not_loopback",
            "Access::loopback() lets in this machine only: ask from 127.0.0.1, or configure \
             Access::bearer(viewer_token)",
        ));
    }
    if let Some(name) = forwarding_header(&parts.headers) {
        return Err(Refusal::not_loopback(
            "forwarded",
            format!(
                "Access::loopback() lets in no forwarded request, and this one has the header {name}: \
                 behind a proxy, configure Access::bearer(viewer_token)"
            ),
        ));
    }
    if parts.version < http::Version::HTTP_11 {
        return Err(Refusal::not_loopback(
            "forwarded",
            "Access::loopback() lets in no HTTP/1.0 request, as nginx forwards them by default: behind a proxy, \
             configure Access::bearer(viewer_token)",
        ));
    }
    // A name that resolves to 127.0.0.1 makes a foreign page our own origin (DNS rebinding). No browser leaves the
    // host out, so a request without one comes from a program.
    let hosts = parts
        .headers
        .get_all(http::header::HOST)
        .iter()
        .map(|host| host.to_str().unwrap_or(""))
        .chain(host_of(parts));
    for host in hosts {
        if !is_local_host(host) {
            return Err(Refusal::not_loopback(
                "host_not_local",
                "Access::loopback() lets in requests to localhost, 127.0.0.1 and [::1] only, not to other names",
            ));
        }
    }
    if origins.check(parts).is_err() && parts.headers.contains_key(http::header::ORIGIN) {
        return Err(Refusal::not_loopback(
            "cross_origin",
            "Access::loopback() lets in no page of another origin; if that page is trusted, add its origin to allowed_origins",
        ));
    }
    Ok(Principal::admin("loopback"))
}

/// `localhost` or a loopback address, with or without a port.
fn is_local_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) => (name, port),
            None => return false,
        },
        None => match host.find(':') {
            Some(colon) => host.split_at(colon),
            None => (host, ""),
        },
    };
    let port_fits = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let local = name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback());
    port_fits && local
}
