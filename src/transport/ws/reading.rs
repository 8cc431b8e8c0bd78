//! Reading: which channels of the hub a connection has, and with which filter.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr, sync::Arc, time::Duration};

use http::StatusCode;

use crate::{
    access::Principal,
    aggregator::Window,
    hub::{ChannelSet, Form, Start, Subscription, ViewSpec},
    runtime::Runtime,
    transport::{
        answer::Refusal,
        connections::{Newcomer, Selection, Session},
        params,
        query::Query,
        router::Shared,
        stream::{self, full_or_closed, lasting, unknown_channel},
    },
};

/// What `stats_update` speaks of where the client does not say, as seed 001 has it.
const DEFAULT_WINDOW: Window = Window::FiveMinutes;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// Public names, `all` included. May be empty.
    pub(super) names: Vec<String>,
    /// The filter's members.
    query: Query,
    /// Of `/ws/tenant/{id}`: nothing else exists for this connection.
    tenant: Option<Arc<str>>,
    form: Form,
}

impl Reading {
    pub(super) fn new(
        names: Vec<String>,
        query: &Query,
        tenant: Option<Arc<str>>,
        form: Form,
    ) -> Self {
        let mut reading = Self {
            names: Vec::new(),
            query: Query::default(),
            tenant,
            form,
        };
        reading.add(names);
        reading.set_filter(query);
        reading
    }

    pub(super) fn add(&mut self, names: Vec<String>) {
        for name in names {
            if !self.names.contains(&name) {
                self.names.push(name);
            }
        }
    }

    /// `all` takes everything away; taking something from `all` leaves the others that there are now.
    pub(super) fn remove(&mut self, names: &[String], runtime: &Runtime) {
        let all = |name: &String| name == "all";
        if names.iter().any(all) {
            self.names.clear();
            return;
        }
        if self.names.iter().any(all) {
            self.names = runtime.hub.channel_names();
        }
        self.names.retain(|name| !names.contains(name));
    }

    /// Replaces the filter by the members of a query that are not about credentials and positions.
    pub(super) fn set_filter(&mut self, query: &Query) {
        const OTHERS: [&str; 6] = [
            "since",
            "lastEventId",
            "token",
            "ticket",
            "channels",
            "metrics",
        ];
        let lasting = query.pairs().filter(|(name, _)| !OTHERS.contains(name));
        self.query = Query::of(
            lasting
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        );
    }

    /// The filter as its members.
    pub(super) fn filter(&self) -> BTreeMap<&str, &str> {
        self.query.pairs().collect()
    }

    /// Checks the names, the right to them, and the filter.
    pub(super) fn spec(
        &self,
        runtime: &Arc<Runtime>,
        principal: &Principal,
    ) -> Result<ViewSpec, Refusal> {
        let tenant = match (principal.tenant_arc(), &self.tenant) {
            (Some(own), Some(asked)) if own != asked => {
                return Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "foreign_tenant",
                    "the principal belongs to another tenant",
                ));
            }
            (own, asked) => own.or(asked.as_ref()).cloned(),
        };
        let mut stats = params::stats(&self.query)?;
        stats.window.get_or_insert(DEFAULT_WINDOW);
        stats.interval.get_or_insert(DEFAULT_INTERVAL);
        params::max_rate(&self.query)?;
        if self.names.is_empty() {
            let filter = params::filter(&self.query)?;
            return Ok(ViewSpec {
                channels: ChannelSet::Some([].into()),
                filter,
                tenant,
                form: self.form,
            });
        }
        for name in self.names.iter().filter(|name| *name != "all") {
            if runtime.hub.channel_id(name).is_none() {
                return Err(unknown_channel(&runtime.hub, name));
            }
            principal.require_channel(name)?;
        }
        stream::view_spec(
            runtime,
            principal,
            tenant,
            &self.names,
            stats,
            &self.query,
            self.form,
        )
    }

    /// Takes a seat, joins the hub, and is on the list of connections from then on.
    pub(super) fn enter(
        &self,
        shared: &Shared,
        principal: &Principal,
        address: Option<IpAddr>,
        spec: ViewSpec,
        start: Start,
    ) -> Result<Subscription, Refusal> {
        let connections = &shared.connections;
        let seat = connections.admission.admit(principal, address)?;
        let subscribed = shared.runtime.hub.subscribe(spec, start);
        let mut subscription = subscribed.map_err(full_or_closed)?;
        self.set_rate(&mut subscription);
        let newcomer = Newcomer {
            transport: "websocket",
            principal,
            address,
            session: Session::random(shared.runtime.clock),
            selection: Selection {
                names: self.names.clone(),
                query: lasting(&self.to_query()),
            },
        };
        connections.enter(seat, &subscription, newcomer);
        Ok(subscription)
    }

    pub(super) fn set_rate(&self, subscription: &mut Subscription) {
        match params::max_rate(&self.query) {
            Ok(Some(rate)) => subscription.limit_rate(rate),
            _ => subscription.lift_rate(),
        }
    }

    /// Channels and filter as a query, for the reconnect token.
    pub(super) fn to_query(&self) -> String {
        let mut text = format!("channels={}", self.names.join(","));
        for (name, value) in self.query.pairs() {
            text.push('&');
            encode(name, &mut text);
            text.push('=');
            encode(value, &mut text);
        }
        if let Some(tenant) = &self.tenant
            && self.query.get("tenant_id").is_none()
        {
            text.push_str("&tenant_id=");
            encode(tenant, &mut text);
        }
        text
    }
}

/// Percent-encodes everything but unreserved characters (RFC 3986, section 2.3) and commas.
fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b',' => {
                out.push(char::from(byte))
            }
            // Writing to a string does not fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_goes_into_a_query_and_back() {
        let query = Query::parse(Some(
            "provider_id=a%26b%20c%C3%A9&only_errors=true&since=7-1&ticket=x",
        ))
        .unwrap();
        let reading = Reading::new(
            vec!["a".into(), "b".into(), "a".into()],
            &query,
            None,
            Form(0),
        );
        let text = reading.to_query();
        assert_eq!(
            text,
            "channels=a,b&provider_id=a%26b%20c%C3%A9&only_errors=true"
        );
        let again = Query::parse(Some(&text)).unwrap();
        assert_eq!(again.get("provider_id"), Some("a&b cé"));
    }
}
