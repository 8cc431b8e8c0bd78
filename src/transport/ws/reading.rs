//! Reading: which channels of the hub a connection has, and with which filter.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use crate::{
    access::Principal,
    hub::{Form, Subscription, ViewSpec},
    runtime::Runtime,
    transport::{
        answer::Refusal,
        connections::Selection,
        params,
        query::Query,
        stream::{self, unknown_channel},
    },
};

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) selection: Selection,
    form: Form,
}

impl Reading {
    pub(super) fn new(selection: Selection, form: Form) -> Self {
        Self { selection, form }
    }

    pub(super) fn add(&mut self, names: Vec<String>) {
        for name in names {
            if !self.selection.names.contains(&name) {
                self.selection.names.push(name);
            }
        }
    }

    /// `all` takes everything away; taking something from `all` leaves the others that there are now.
    pub(super) fn remove(&mut self, names: &[String], runtime: &Runtime, principal: &Principal) {
        let all = |name: &String| name == "all";
        let held = &mut self.selection.names;
        if names.iter().any(all) {
            held.clear();
            return;
        }
        if held.iter().any(all) {
            *held = runtime.hub.channel_names();
            held.retain(|name| principal.may_read(name));
        }
        held.retain(|name| !names.contains(name));
    }

    pub(super) fn set_filter(&mut self, members: &Query) {
        let mut text = String::new();
        for (name, value) in members.pairs() {
            if !text.is_empty() {
                text.push('&');
            }
            encode(name, &mut text);
            text.push('=');
            encode(value, &mut text);
        }
        // By the same way as a URL's: what is not about the filter does not stay.
        self.selection.query = stream::lasting(&text);
    }

    /// The filter as its members.
    pub(super) fn filter(&self) -> BTreeMap<String, String> {
        let query = Query::parse(Some(&self.selection.query)).unwrap_or_default();
        let members = query.pairs();
        members
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Checks the names, the right to them, and the filter.
    pub(super) fn spec(
        &self,
        runtime: &Arc<Runtime>,
        principal: &Principal,
    ) -> Result<ViewSpec, Refusal> {
        let query = Query::parse(Some(&self.selection.query))?;
        params::max_rate(&query)?;
        // Also those that `all` would hide.
        for name in self.selection.names.iter().filter(|name| *name != "all") {
            if runtime.hub.channel_id(name).is_none() {
                return Err(unknown_channel(&runtime.hub, name));
            }
            principal.require_channel(name)?;
        }
        stream::view_spec(runtime, principal, &self.selection, &query, self.form)
    }

    /// Skips what is more than the filter's `max_rate`.
    pub(super) fn set_rate(&self, subscription: &mut Subscription) {
        let query = Query::parse(Some(&self.selection.query)).unwrap_or_default();
        match params::max_rate(&query) {
            Ok(Some(rate)) => subscription.limit_rate(rate),
            _ => subscription.lift_rate(),
        }
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
    fn a_filter_goes_into_a_query_and_back() {
        let mut reading = Reading::new(Selection::default(), Form(0));
        let members = [
            ("provider_id", "a&b cé"),
            ("only_errors", "true"),
            ("since", "7-1"),
        ];
        let pairs = members
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        reading.set_filter(&Query::of(pairs.collect()));
        assert_eq!(
            reading.selection.query,
            "provider_id=a%26b%20c%C3%A9&only_errors=true"
        );
        assert_eq!(reading.filter()["provider_id"], "a&b cé");
        assert_eq!(reading.filter().len(), 2);
    }
}
