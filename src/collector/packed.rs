//! A record as the plain words that the queue carries.

use super::{
    labels::LabelId,
    record::{Extra, Method, Outcome, Record},
};

/// Words of a packed record. With its sequence number and its box a queue slot fills two cache lines.
pub(super) const WORDS: usize = 12;

// The first word's lower half: the status in 16 bits (0: none), the method in 4, the outcome in 3, then flags.
const METHOD_SHIFT: u32 = 16;
const OUTCOME_SHIFT: u32 = 20;
const SUCCESS: u64 = 1 << 23;
const HAS_TTFB: u64 = 1 << 24;
const HAS_INPUT: u64 = 1 << 25;
const HAS_OUTPUT: u64 = 1 << 26;
const HAS_CACHED: u64 = 1 << 27;
const HAS_COST: u64 = 1 << 28;
const HAS_REQUEST_BYTES: u64 = 1 << 29;

/// The plain part of a record.
#[inline]
pub(super) fn pack(record: &Record) -> [u64; WORDS] {
    let flag = |set: bool, flag: u64| if set { flag } else { 0 };
    let head = u64::from(record.status.unwrap_or(0))
        | (record.method as u64) << METHOD_SHIFT
        | (record.outcome as u64) << OUTCOME_SHIFT
        | flag(record.success, SUCCESS)
        | flag(record.ttfb_us.is_some(), HAS_TTFB)
        | flag(record.input_tokens.is_some(), HAS_INPUT)
        | flag(record.output_tokens.is_some(), HAS_OUTPUT)
        | flag(record.cached_tokens.is_some(), HAS_CACHED)
        | flag(record.cost_nanos.is_some(), HAS_COST)
        | flag(record.request_bytes.is_some(), HAS_REQUEST_BYTES);
    let pair = |low: u64, high: LabelId| low | u64::from(high.0) << 32;
    [
        pair(head, record.user),
        pair(u64::from(record.route.0), record.provider),
        pair(u64::from(record.model.0), record.tenant),
        record.ended_us,
        record.latency_us,
        record.ttfb_us.unwrap_or(0),
        record.input_tokens.unwrap_or(0),
        record.output_tokens.unwrap_or(0),
        record.cached_tokens.unwrap_or(0),
        record.cost_nanos.unwrap_or(0),
        record.request_bytes.unwrap_or(0),
        record.response_bytes,
    ]
}

/// The record again.
pub(super) fn unpack(words: &[u64; WORDS], extra: Option<Box<Extra>>) -> Record {
    let head = words[0];
    let known = |flag: u64, word: u64| (head & flag != 0).then_some(word);
    let low = |word: u64| LabelId(word as u32);
    let high = |word: u64| LabelId((word >> 32) as u32);
    let status = head as u16;
    Record {
        ended_us: words[3],
        latency_us: words[4],
        ttfb_us: known(HAS_TTFB, words[5]),
        status: (status != 0).then_some(status),
        method: method(head >> METHOD_SHIFT & 0xf),
        outcome: outcome(head >> OUTCOME_SHIFT & 0x7),
        success: head & SUCCESS != 0,
        route: low(words[1]),
        provider: high(words[1]),
        model: low(words[2]),
        tenant: high(words[2]),
        user: high(words[0]),
        input_tokens: known(HAS_INPUT, words[6]),
        output_tokens: known(HAS_OUTPUT, words[7]),
        cached_tokens: known(HAS_CACHED, words[8]),
        cost_nanos: known(HAS_COST, words[9]),
        request_bytes: known(HAS_REQUEST_BYTES, words[10]),
        response_bytes: words[11],
        extra,
    }
}

fn method(number: u64) -> Method {
    const METHODS: [Method; 10] = [
        Method::Get,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Patch,
        Method::Head,
        Method::Options,
        Method::Connect,
        Method::Trace,
        Method::Other,
    ];
    METHODS
        .get(number as usize)
        .copied()
        .unwrap_or(Method::Other)
}

fn outcome(number: u64) -> Outcome {
    const OUTCOMES: [Outcome; 6] = [
        Outcome::Completed,
        Outcome::ServiceError,
        Outcome::BodyError,
        Outcome::DroppedBeforeResponse,
        Outcome::DroppedInBody,
        Outcome::Panicked,
    ];
    OUTCOMES
        .get(number as usize)
        .copied()
        .unwrap_or(Outcome::Panicked)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn as_text(record: &Record) -> String {
        format!("{record:?}")
    }

    proptest! {
        #[test]
        fn a_record_survives_packing(
            numbers in any::<[u64; 9]>(),
            known in any::<[bool; 8]>(),
            ids in any::<[u32; 5]>(),
            status in 1_u16..,
            method_number in 0_u64..10,
            outcome_number in 0_u64..6,
        ) {
            let option = |index: usize| known[index].then_some(numbers[index]);
            let record = Record {
                ended_us: numbers[6],
                latency_us: numbers[7],
                ttfb_us: option(0),
                status: known[6].then_some(status),
                method: method(method_number),
                outcome: outcome(outcome_number),
                success: known[7],
                route: LabelId(ids[0]),
                provider: LabelId(ids[1]),
                model: LabelId(ids[2]),
                tenant: LabelId(ids[3]),
                user: LabelId(ids[4]),
                input_tokens: option(1),
                output_tokens: option(2),
                cached_tokens: option(3),
                cost_nanos: option(4),
                request_bytes: option(5),
                response_bytes: numbers[8],
                extra: None,
            };
            prop_assert_eq!(record.method as u64, method_number);
            prop_assert_eq!(record.outcome as u64, outcome_number);
            prop_assert_eq!(as_text(&unpack(&pack(&record), None)), as_text(&record));
        }
    }
}
