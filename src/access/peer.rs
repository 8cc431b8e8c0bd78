//! Where a request comes from: the peer's address, and what proxies say about it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, request::Parts};

/// The address of the peer of a connection, for hosts that are not served by axum.
///
/// Whoever accepts the connection adds it to the extensions of each request. With axum,
/// `into_make_service_with_connect_info::<SocketAddr>()` does the same.
///
/// ```
/// # use tower_realtime::PeerAddr;
/// # let peer: std::net::SocketAddr = "127.0.0.1:4000".parse().unwrap();
/// # let mut request = http::Request::new(());
/// request.extensions_mut().insert(PeerAddr(peer));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

/// The peer of the connection; `None` where nobody said so.
pub(crate) fn peer_ip(parts: &Parts) -> Option<IpAddr> {
    let peer = parts.extensions.get::<PeerAddr>().map(|peer| peer.0);
    #[cfg(feature = "axum")]
    let peer = peer.or_else(|| {
        parts
            .extensions
            .get::<axum::extract::ConnectInfo<SocketAddr>>()
            .map(|info| info.0)
    });
    // `::ffff:127.0.0.1`, what a dual-stack listener sees, is 127.0.0.1.
    peer.map(|peer| peer.ip().to_canonical())
}

/// What limits count by. A household's share of IPv6 is a /64 network: counting single addresses of it would bound
/// nothing.
pub(super) fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (!0 << 64)).into(),
        address => address,
    }
}

/// A header that a proxy adds: the peer is then not where the request comes from.
pub(super) fn forwarding_header(headers: &HeaderMap) -> Option<&str> {
    headers
        .keys()
        .map(|name| name.as_str())
        .find(|name| FORWARDING.contains(name) || name.starts_with("x-forwarded"))
}

const FORWARDING: [&str; 12] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-envoy-external-address",
    "x-appengine-user-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fly-client-ip",
];

/// The proxies whose `x-forwarded-for` is believed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// What is no network is left out; the configuration has been checked before.
    pub(crate) fn new(networks: &[String]) -> Self {
        Self(networks.iter().filter_map(|text| parse(text)).collect())
    }

    /// The client's address: the peer's, or, where the peer is a trusted proxy, the last address of
    /// `x-forwarded-for` that is not one of theirs. What stands further left can have been sent by anybody.
    pub(crate) fn client_ip(&self, parts: &Parts) -> Option<IpAddr> {
        let mut client = peer_ip(parts)?;
        let forwarded = parts.headers.get_all("x-forwarded-for");
        let mut hops: Vec<&str> = forwarded
            .iter()
            .flat_map(|value| value.to_str().unwrap_or_default().split(','))
            .collect();
        while self.contains(client) {
            let Some(hop) = hops.pop() else { break };
            let Some(address) = parse_hop(hop) else { break };
            client = address;
        }
        Some(client)
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug)]
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - self.prefix;
                let cut = |address: u32| address.checked_shr(shift).unwrap_or(0);
                cut(network.to_bits()) == cut(address.to_bits())
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - self.prefix;
                let cut = |address: u128| address.checked_shr(shift).unwrap_or(0);
                cut(network.to_bits()) == cut(address.to_bits())
            }
            _ => false,
        }
    }
}

/// `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
pub(crate) fn is_network(text: &str) -> bool {
    parse(text).is_some()
}

fn parse(text: &str) -> Option<Network> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => prefix.parse().ok()?,
        Some(_) => return None,
        None => bits,
    };
    (prefix <= bits).then_some(Network { address, prefix })
}

/// An address of `x-forwarded-for`, with or without a port.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn from(peer: &str, forwarded: &[&str]) -> Parts {
        let mut request = Request::get("/");
        for value in forwarded {
            request = request.header("x-forwarded-for", *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts
            .extensions
            .insert(PeerAddr(SocketAddr::new(peer.parse().unwrap(), 4000)));
        parts
    }

    #[test]
    fn networks() {
        for text in [
            "10.0.0.1",
            "10.0.0.0/8",
            "::1",
            "fd00::/8",
            "0.0.0.0/0",
            "::/0",
        ] {
            assert!(is_network(text), "{text}");
        }
        for text in [
            "",
            "localhost",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
        ] {
            assert!(!is_network(text), "{text}");
        }
        let contains = |network: &str, address: &str| {
            parse(network).unwrap().contains(address.parse().unwrap())
        };
        assert!(contains("10.0.0.0/8", "10.200.3.4"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.1.2.3", "10.1.2.3"));
        assert!(!contains("10.1.2.3", "10.1.2.4"));
        assert!(contains("0.0.0.0/0", "1.2.3.4"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert!(contains("fd00::/8", "fdab::1"));
        assert!(contains("::/0", "fdab::1"));
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = TrustedProxies::new(&["10.0.0.0/8".to_owned(), "127.0.0.1".to_owned()]);
        for (peer, forwarded, client) in [
            ("203.0.113.9", vec![], "203.0.113.9"),
            // Anybody can send the header.
            ("203.0.113.9", vec!["198.51.100.1"], "203.0.113.9"),
            ("10.0.0.1", vec!["198.51.100.1"], "198.51.100.1"),
            (
                "10.0.0.1",
                vec!["6.6.6.6, 198.51.100.1, 10.0.0.2"],
                "198.51.100.1",
            ),
            ("10.0.0.1", vec!["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", vec!["198.51.100.1:5000"], "198.51.100.1"),
            ("::ffff:10.0.0.1", vec!["[2001:db8::1]:5000"], "2001:db8::1"),
            ("10.0.0.1", vec!["6.6.6.6, unknown"], "10.0.0.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
        ] {
            let found = proxies.client_ip(&from(peer, &forwarded));
            assert_eq!(found, Some(client.parse().unwrap()), "{peer} {forwarded:?}");
        }
        let (unknown, ()) = Request::new(()).into_parts();
        assert_eq!(proxies.client_ip(&unknown), None);
    }

    proptest! {
        #[test]
        fn no_header_panics(text in ".*") {
            let _ = parse_hop(&text);
            let _ = parse(&text);
        }
    }
}
