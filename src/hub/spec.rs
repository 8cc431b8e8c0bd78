//! Specs: what a reader wants to see, which is what makes two readers share a view.

use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
    ops::Range,
    sync::Arc,
};

use super::{
    channel::{ChannelId, ChannelInfo},
    entry::{Entry, Form},
    event::Narrowed,
    filter::Filter,
    packed::Item,
};

#[cfg(test)]
thread_local! {
    /// How many events were held against a filter, for the tests that ask what something costs.
    pub(super) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Which channels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChannelSet {
    /// All that are not hidden, those to come included.
    All,
    /// The same, with a variant in the place of each of some: `(instead of, variant)`.
    AllBut(Box<[(ChannelId, ChannelId)]>),
    /// Sorted, without repeats.
    Some(Box<[ChannelId]>),
}

/// What makes two readers share a view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ViewSpec {
    pub(crate) channels: ChannelSet,
    pub(crate) filter: Filter,
    /// The reader's tenant: events that are not of this tenant do not exist for it.
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) form: Form,
    /// Of the hidden channels among them.
    pub(crate) leases: Leases,
}

/// Keeps a hidden channel from being given up while somebody reads it, or is about to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lease(Arc<()>);

impl Lease {
    /// Whether anybody but its owner holds it. Where nobody does, nobody but the owner can hand it out.
    pub(crate) fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// The leases of a spec. They make no two specs different: as long as they are held, the numbers of the channels, which
/// are part of the spec, are nobody else's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases(Vec<Lease>);

impl Leases {
    pub(crate) fn add(&mut self, lease: Lease) {
        self.0.push(lease);
    }
}

impl PartialEq for Leases {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Leases {}

impl Hash for Leases {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl ViewSpec {
    pub(crate) fn wants(&self, channel: &ChannelInfo) -> bool {
        match &self.channels {
            ChannelSet::All => !channel.hidden,
            ChannelSet::AllBut(replaced) => match channel.hidden {
                true => replaced.iter().any(|(_, variant)| *variant == channel.id),
                false => !replaced
                    .iter()
                    .any(|(instead_of, _)| *instead_of == channel.id),
            },
            ChannelSet::Some(ids) => ids.binary_search(&channel.id).is_ok(),
        }
    }

    /// Whether an event of that tenant, or of none, exists for the reader.
    pub(crate) fn may_see(&self, tenant: Option<&str>) -> bool {
        self.tenant.is_none() || self.tenant.as_deref() == tenant
    }

    /// Which of an entry's events exist for the reader, wanted or not.
    pub(crate) fn visible_in<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = u32> + 'a {
        let narrowed = match &self.tenant {
            Some(tenant) => entry.source.narrow(&Filter::default(), Some(tenant)),
            None => Narrowed::Whole,
        };
        (0..entry.len).filter(move |index| match narrowed {
            Narrowed::Whole => self.may_see(entry.source.tags(*index as usize).tenant),
            Narrowed::Nothing => false,
            Narrowed::Rows(_) => true,
        })
    }

    /// Whether the reader wants any of an entry's events, and may see it.
    pub(crate) fn selects(&self, entry: &Arc<Entry>) -> bool {
        let mut wanted = VecDeque::new();
        self.select(entry, 0..entry.len, &mut wanted);
        !wanted.is_empty()
    }

    /// The runs of an entry's events, within `range`, that the reader wants and may see.
    pub(crate) fn select(&self, entry: &Arc<Entry>, range: Range<u32>, into: &mut VecDeque<Item>) {
        if self.tenant.is_none() && self.filter.is_empty() {
            if !range.is_empty() {
                into.push_back(Item {
                    entry: entry.clone(),
                    range,
                });
            }
            return;
        }
        match entry.source.narrow(&self.filter, self.tenant.as_deref()) {
            Narrowed::Whole => {}
            Narrowed::Nothing => return,
            Narrowed::Rows(source) => {
                let entry = Arc::new(entry.with_source(source));
                into.push_back(Item { entry, range });
                return;
            }
        }
        let mut run = range.start..range.start;
        for index in range {
            #[cfg(test)]
            LOOKED_AT.set(LOOKED_AT.get() + 1);
            let tags = entry.source.tags(index as usize);
            if self.may_see(tags.tenant) && self.filter.matches(&tags) {
                run.end = index + 1;
                continue;
            }
            if !run.is_empty() {
                into.push_back(Item {
                    entry: entry.clone(),
                    range: run,
                });
            }
            run = index + 1..index + 1;
        }
        if !run.is_empty() {
            into.push_back(Item {
                entry: entry.clone(),
                range: run,
            });
        }
    }
}
