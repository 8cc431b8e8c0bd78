//! Compressed answers: who gets them, and what gzip puts around blocks that many share.
//!
//! A gzip stream (RFC 1952) is a header, deflate blocks (RFC 1951), and a checksum. Here every block ends on a byte with
//! a sync flush, so that a client can decode it as soon as it is there, and so that blocks can be put behind each other
//! in any order that their references allow: the hub makes those of events once for all readers (see
//! `hub::Compressor`). Frames that are one client's own (the first with its reconnect token, gaps, `drain`) are put in
//! between as they are, in stored blocks: they cost no time, and no secret ever meets somebody else's text in one
//! window. Events that one client has for itself are compressed as far as a budget goes (see `budget`).

#[cfg(feature = "compression")]
mod budget;
#[cfg(feature = "compression")]
mod deflate;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use super::answer::Answer;
use crate::{
    config::RealtimeConfig,
    hub::{Check, Compressor, Hub},
    middleware::OwnBody,
};

/// Bodies from here on are compressed; smaller ones fit into one packet anyway.
const MIN_BODY_BYTES: usize = 1024;

/// Deflate, no flags, no time, no extra flags, unknown system (RFC 1952, section 2.3).
const HEADER: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255];

/// The most that a stored block holds (RFC 1951, section 3.2.4).
const MAX_STORED: usize = 0xFFFF;

/// What compresses events and answers, where that is wanted and built in.
pub(crate) fn compressor(config: &RealtimeConfig) -> Option<Arc<dyn Compressor>> {
    config.compression.then(built_in).flatten()
}

#[cfg(feature = "compression")]
fn built_in() -> Option<Arc<dyn Compressor>> {
    Some(Arc::new(deflate::Deflate::new()))
}

#[cfg(not(feature = "compression"))]
fn built_in() -> Option<Arc<dyn Compressor>> {
    None
}

/// Whether a client takes gzip, and not rather the bytes as they are (RFC 9110, section 12.5.3).
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any, mut identity) = (None::<u16>, None::<u16>, None::<u16>);
    let values = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    for coding in values.flat_map(|value| value.split(',')) {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let slot = match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => &mut gzip,
            name if name.eq_ignore_ascii_case("x-gzip") => &mut gzip,
            name if name.eq_ignore_ascii_case("identity") => &mut identity,
            "*" => &mut any,
            _ => continue,
        };
        *slot = Some(weight(parameters).max(slot.unwrap_or(0)));
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// In thousandths: 0 to 1 with at most three decimals (RFC 9110, section 12.4.2). One that is none, such as 1.5, counts
/// as a refusal: plain bytes are what everybody understands.
fn weight(parameters: &str) -> u16 {
    let text = parameters.trim();
    let value = match text.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => value.trim(),
        _ => return if text.is_empty() { 1000 } else { 0 },
    };
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let is_value = ["0", "1"].contains(&whole)
        && decimals.len() <= 3
        && decimals.bytes().all(|byte| byte.is_ascii_digit());
    if !is_value {
        return 0;
    }
    let thousandths: u16 = format!("{whole}{decimals:0<3}").parse().unwrap_or(0);
    if thousandths > 1000 { 0 } else { thousandths }
}

/// Compresses the body of an answer, where the client takes it and it is worth it. Answers are paid from the same budget
/// as what streams have each for themselves: whoever asks for the same large one without end gets it as it is.
pub(super) fn compress(
    compressor: &dyn Compressor,
    accepted: &HeaderMap,
    answer: &mut Answer,
    now_us: u64,
) {
    if answer.status().is_informational() {
        return;
    }
    vary_by_encoding(answer.headers_mut());
    if answer.headers().contains_key(header::CONTENT_ENCODING) || !accepts_gzip(accepted) {
        return;
    }
    let OwnBody::Full(Some(plain)) = answer.body() else {
        return;
    };
    if plain.len() < MIN_BODY_BYTES || !compressor.affords(plain.len(), 1, now_us) {
        return;
    }
    *answer.body_mut() = OwnBody::full(whole(compressor, plain));
    say_gzip(answer.headers_mut());
    answer.headers_mut().remove(header::CONTENT_LENGTH);
}

pub(super) fn say_gzip(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
}

fn vary_by_encoding(headers: &mut HeaderMap) {
    let varies = headers
        .get_all(header::VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("accept-encoding"));
    if !varies {
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// All of a body.
fn whole(compressor: &dyn Compressor, plain: &[u8]) -> Bytes {
    let block = compressor.alone(plain);
    let mut gzip = HEADER.to_vec();
    gzip.extend_from_slice(&block.bytes);
    push_end(&mut gzip, block.check);
    gzip.into()
}

/// One client's gzip stream, made of blocks that it shares with others. All that it needs is two numbers.
pub(super) struct GzipStream {
    compressor: Arc<dyn Compressor>,
    total: Check,
}

impl GzipStream {
    /// `None` for a client that does not take it, and where nothing compresses.
    pub(super) fn wanted(hub: &Hub, accepted: &HeaderMap) -> Option<Self> {
        let compressor = hub.compressor()?;
        accepts_gzip(accepted).then(|| Self {
            compressor: compressor.clone(),
            total: Check::default(),
        })
    }

    /// What has to come first, with the first bytes.
    pub(super) fn begin(&mut self, plain: &[u8]) -> Bytes {
        let mut out = HEADER.to_vec();
        self.push_stored(plain, &mut out);
        out.into()
    }

    /// A block that was made for this place.
    pub(super) fn take(&mut self, block: Bytes, check: Check) -> Bytes {
        self.total = self.total.followed_by(check);
        block
    }

    /// Bytes of this client's own.
    pub(super) fn stored(&mut self, plain: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(plain.len() + 5);
        self.push_stored(plain, &mut out);
        out.into()
    }

    /// The last bytes, and what ends the stream.
    pub(super) fn end(&mut self, plain: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(plain.len() + 18);
        self.push_stored(plain, &mut out);
        push_end(&mut out, self.total);
        out.into()
    }

    fn push_stored(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let check = Check::of(self.compressor.sum(plain), plain);
        self.total = self.total.followed_by(check);
        push_stored(plain, out);
    }
}

impl fmt::Debug for GzipStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GzipStream")
            .field("len", &self.total.len)
            .finish_non_exhaustive()
    }
}

/// Bytes as they are, in blocks that are not the last (RFC 1951, section 3.2.4).
fn push_stored(plain: &[u8], out: &mut Vec<u8>) {
    for part in plain.chunks(MAX_STORED) {
        let len = part.len() as u16;
        out.push(0);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(part);
    }
}

/// An empty block that is the last, the checksum, and the length (RFC 1952, section 2.3.1).
fn push_end(out: &mut Vec<u8>, total: Check) {
    out.extend_from_slice(&[0x03, 0x00]);
    out.extend_from_slice(&total.sum.to_le_bytes());
    out.extend_from_slice(&total.len.to_le_bytes());
}

/// What is multiplied with to put a sum before eight times nothing: x⁸, the lowest power in the highest bit.
const X8: u32 = 1 << (31 - 8);
const ONE: u32 = 1 << 31;
/// The polynomial of CRC-32 without its highest power, in the same order of bits.
const POLYNOMIAL: u32 = 0xEDB8_8320;

impl Check {
    /// Of bytes with this CRC-32.
    fn of(sum: u32, plain: &[u8]) -> Self {
        // No chunk and no body has 4 GiB.
        let len = plain.len() as u32;
        let (mut shift, mut power, mut rest) = (ONE, X8, len);
        while rest > 0 {
            if rest & 1 == 1 {
                shift = multiply(shift, power);
            }
            power = multiply(power, power);
            rest >>= 1;
        }
        Self { sum, shift, len }
    }

    /// Of these bytes with others behind them. A CRC is a remainder, so appending n bytes multiplies it with x to the
    /// 8n-th: about 50 ns for each client, where a sum over the bytes themselves would cost each client as much as
    /// all of them together.
    fn followed_by(self, next: Self) -> Self {
        Self {
            sum: multiply(self.sum, next.shift) ^ next.sum,
            // Of a total, nobody asks.
            shift: 0,
            // Modulo 2³², as RFC 1952 has it.
            len: self.len.wrapping_add(next.len),
        }
    }
}

/// The product of two polynomials over GF(2), modulo that of CRC-32.
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = (b >> 1) ^ if b & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    product
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn accepts(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_str(value).unwrap();
            headers.append(header::ACCEPT_ENCODING, value);
        }
        accepts_gzip(&headers)
    }

    #[test]
    fn gzip_goes_to_those_who_ask_for_it() {
        for values in [
            &["gzip"][..],
            &["gzip, deflate, br, zstd"],
            &["deflate,GZIP ;Q=0.5"],
            &["x-gzip"],
            &["gzip;q=1.000"],
            &["gzip;q=0.001"],
            &["gzip;q=1."],
            &["br;q=1.0, *;q=0.1"],
            &["br", "gzip"],
            &["identity;q=0.5, gzip;q=1"],
            &["identity, gzip"],
            &["*"],
        ] {
            assert!(accepts(values), "{values:?}");
        }
        for values in [
            &[][..],
            &[""],
            &["identity"],
            &["br"],
            &["gzip;q=0"],
            &["gzip; q=0.000, br"],
            &["*, gzip;q=0"],
            &["*;q=0"],
            &["gzip;q=oops"],
            &["gzip;q=1.5"],
            &["gzip;q=1.001"],
            &["gzip;q=2"],
            &["gzip;q=-1"],
            &["gzip;q=0.9999"],
            &["gzip;q=1e0"],
            &["gzip;q=inf"],
            &["gzip;q="],
            &["gzip;q=.5"],
            &["gzip;level=9"],
            &["gzip;q=0.2, identity;q=0.8"],
            &["gzipped"],
        ] {
            assert!(!accepts(values), "{values:?}");
        }
    }

    #[test]
    fn sums_of_parts_are_the_sum_of_all() {
        let sum = |bytes: &[u8]| {
            let mut crc = flate2::Crc::new();
            crc.update(bytes);
            crc.sum()
        };
        let bytes: Vec<u8> = (0..70_000u32)
            .map(|n| (n.wrapping_mul(n) >> 7) as u8)
            .collect();
        for lens in [&[0][..], &[1], &[5, 0, 300], &[65_535, 1, 2], &[9; 1000]] {
            let (mut total, mut done) = (Check::default(), 0);
            for len in lens {
                let part = &bytes[done..done + len];
                total = total.followed_by(Check::of(sum(part), part));
                done += len;
            }
            assert_eq!((total.sum, total.len), (sum(&bytes[..done]), done as u32));
        }
    }

    #[test]
    fn stored_blocks_hold_any_length() {
        for len in [0, 1, MAX_STORED, MAX_STORED + 1, 200_000] {
            let plain: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let mut blocks = Vec::new();
            push_stored(&plain, &mut blocks);
            let parts = len.div_ceil(MAX_STORED);
            assert_eq!(blocks.len(), len + 5 * parts);
        }
    }

    #[cfg(feature = "compression")]
    #[test]
    fn answers_that_somebody_asks_for_without_end_go_out_as_they_are() {
        let compressor = built_in().unwrap();
        let mut accepted = HeaderMap::new();
        accepted.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let answer = || {
            let mut answer = Answer::new(OwnBody::full(vec![b'x'; 100_000]));
            compress(&*compressor, &accepted, &mut answer, 0);
            assert_eq!(answer.headers()[header::VARY], "accept-encoding");
            answer
                .headers()
                .get(header::CONTENT_ENCODING)
                .is_some_and(|coding| coding == "gzip")
        };
        let compressed = (0..100).take_while(|_| answer()).count();
        assert_eq!(compressed, 10, "a mebibyte for one");
        assert!(!answer());
    }
}
