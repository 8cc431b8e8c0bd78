//! What is published, and the chance that decides it.

use super::super::*;

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn of(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }
}

/// `x` or `y`, and a number that no other event of the channel has.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) texts: Vec<String>,
    pub(super) users: Vec<&'static str>,
    pub(super) tenants: Vec<&'static str>,
    pub(super) priority: Priority,
}

impl Source for Numbered {
    fn len(&self) -> usize {
        self.texts.len()
    }
    fn name(&self, _: usize, _: Dialect) -> &str {
        "numbered"
    }
    fn write_json(&self, index: usize, _: Dialect, out: &mut Vec<u8>) {
        out.extend_from_slice(self.texts[index].as_bytes());
    }
    fn tags(&self, index: usize) -> Tags<'_> {
        Tags {
            kind: "numbered",
            user: Some(self.users[index]),
            tenant: Some(self.tenants[index]),
            ..Tags::default()
        }
    }
    fn key(&self, _: usize) -> &str {
        self.users[0]
    }
    fn priority(&self) -> Priority {
        self.priority
    }
    fn weight(&self) -> usize {
        self.texts.iter().map(String::len).sum()
    }
}

/// `channel seq text`, the text padded so that a read takes several turns.
pub(super) fn encode(frame: &Frame<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{} {} ", frame.channel, frame.position.seq).as_bytes());
    frame.source.write_json(frame.index, Dialect::Stream, out);
    out.push(b'\n');
}

/// What was published, by the number in its text.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub(super) seq: u64,
    pub(super) user: &'static str,
    pub(super) tenant: &'static str,
    pub(super) at_us: u64,
}

impl Sent {
    pub(super) fn is_for(&self, spec: &ViewSpec) -> bool {
        let user = spec.filter.user.as_deref();
        let tenant = spec.tenant.as_deref();
        user.is_none_or(|user| user == self.user)
            && tenant.is_none_or(|tenant| tenant == self.tenant)
    }
}

pub(super) struct Channel {
    pub(super) id: ChannelId,
    pub(super) name: &'static str,
    pub(super) is_state: bool,
    pub(super) events: Vec<Sent>,
}

impl Channel {
    /// Those with numbers in `(from, to]`.
    pub(super) fn between(&self, from: u64, to: u64) -> impl Iterator<Item = &Sent> {
        let start = self.events.partition_point(|sent| sent.seq <= from);
        self.events[start..]
            .iter()
            .take_while(move |sent| sent.seq <= to)
    }
}
