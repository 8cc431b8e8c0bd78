//! Reading: which channels of the hub a connection has, and with which filter.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use crate::{
    access::Principal,
    hub::{Form, Subscription, ViewSpec},
    runtime::Runtime,
    transport::{answer::Refusal, connections::Selection, params, query::Query, stream, wanted},
};

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) selection: Selection,
    /// The selection's query as pairs. `None` until somebody asks: most connections never change what they read.
    parsed: Option<Box<Parsed>>,
    form: Form,
}

/// A query, and the rate that it asks for.
#[derive(Clone, Debug)]
struct Parsed {
    text: String,
    query: Query,
    max_rate: Option<NonZeroU32>,
}

impl Reading {
    pub(super) fn new(selection: Selection, form: Form) -> Self {
        Self {
            selection,
            parsed: None,
            form,
        }
    }

    /// The selection's query, read once: it can be changed over REST as well, and is another one then.
    fn parsed(&mut self) -> Result<&Parsed, Refusal> {
        let text = &self.selection.query;
        let parsed = match self.parsed.take() {
            Some(parsed) if parsed.text == *text => parsed,
            _ => {
                let query = Query::parse(Some(text))?;
                let max_rate = params::max_rate(&query)?;
                Box::new(Parsed {
                    text: text.clone(),
                    query,
                    max_rate,
                })
            }
        };
        Ok(self.parsed.insert(parsed))
    }

    pub(super) fn add(&mut self, names: Vec<String>) {
        self.selection.add(names);
    }

    /// What there is not can't be taken away: a typing error would look as if it had worked.
    pub(super) fn remove(
        &mut self,
        names: &[String],
        runtime: &Runtime,
        principal: &Principal,
    ) -> Result<(), Refusal> {
        for name in names.iter().filter(|name| *name != "all") {
            stream::require(&runtime.hub, principal, name)?;
        }
        self.selection.remove(names, &runtime.hub, principal);
        Ok(())
    }

    /// One filter for all channels, as a stream has: a new one takes the place of the whole of the one before, and none
    /// leaves it.
    pub(super) fn set_filter(&mut self, members: Option<Query>) {
        let Some(members) = members else {
            return;
        };
        // By the same way as a URL's: what is not about the filter does not stay.
        self.selection.query = wanted::lasting(&members);
    }

    /// The filter as its members.
    pub(super) fn filter(&mut self) -> BTreeMap<String, String> {
        let members = self.parsed().map(|parsed| parsed.query.pairs());
        members
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Checks the names, the right to them, and the filter.
    pub(super) fn spec(
        &mut self,
        runtime: &Arc<Runtime>,
        principal: &Principal,
    ) -> Result<ViewSpec, Refusal> {
        self.parsed()?;
        let (selection, form) = (self.selection.clone(), self.form);
        let query = &self.parsed()?.query;
        stream::view_spec(runtime, principal, &selection, query, form)
    }

    /// Skips what is more than the filter's `max_rate`.
    pub(super) fn set_rate(&mut self, subscription: &mut Subscription) {
        match self.parsed().map(|parsed| parsed.max_rate) {
            Ok(Some(rate)) => subscription.limit_rate(rate),
            _ => subscription.lift_rate(),
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
        reading.set_filter(Some(Query::of(pairs.collect())));
        assert_eq!(
            reading.selection.query,
            "provider_id=a%26b%20c%C3%A9&only_errors=true"
        );
        assert_eq!(reading.filter()["provider_id"], "a&b cé");
        assert_eq!(reading.filter().len(), 2);
    }
}
