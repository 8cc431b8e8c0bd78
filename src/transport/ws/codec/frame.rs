//! The head of a frame, and the mask (RFC 6455 sections 5.2 and 5.3).

use super::close::Violation;

/// What a frame is for (RFC 6455 section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    pub(crate) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The first bit of a frame: the last fragment of its message.
pub(super) const FIN: u8 = 0x80;
/// The second: the message is deflated (RFC 7692 section 6).
pub(super) const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;

/// The longest payload of a control frame (RFC 6455 section 5.5).
pub(super) const MAX_CONTROL: usize = 125;

/// The head of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) fin: bool,
    pub(super) deflated: bool,
    pub(super) opcode: Opcode,
    pub(super) len: u64,
    pub(super) mask: [u8; 4],
}

impl Head {
    /// The longest head: two bytes, a length of 64 bits, the mask.
    pub(super) const MAX: usize = 14;

    /// Reads a head from all the bytes of it that have come so far. `None` asks for more.
    ///
    /// What can be refused from the first byte is refused at the first byte: a client that gets it wrong learns so
    /// before it has sent the rest. `deflate` says whether permessage-deflate was negotiated, without which the bit
    /// RSV1 has no meaning and is an error (section 5.2).
    pub(super) fn parse(bytes: &[u8], deflate: bool) -> Result<Option<Self>, Violation> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let fin = first & FIN != 0;
        let deflated = first & RSV1 != 0;
        if first & RSV2_RSV3 != 0 || (deflated && !deflate) {
            return Err(Violation::protocol("reserved bits are set"));
        }
        let opcode = Opcode::from_bits(first & OPCODE)
            .ok_or(Violation::protocol("opcode is not defined"))?;
        if opcode.is_control() && !fin {
            return Err(Violation::protocol("control frame is fragmented"));
        }
        // RFC 7692 section 6.1: the bit belongs to the first frame of a data message and to no other.
        if deflated && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return Err(Violation::protocol(
                "compressed bit is set on a frame that does not begin a message",
            ));
        }

        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        // Section 5.1: a server must not take a frame that is not masked.
        if second & MASKED == 0 {
            return Err(Violation::protocol("frame of a client is not masked"));
        }
        let short = second & !MASKED;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL {
            return Err(Violation::protocol(
                "control frame is longer than 125 bytes",
            ));
        }

        let rest = &bytes[2..];
        let Some((len, rest)) = Self::length(short, rest)? else {
            return Ok(None);
        };
        let Some(&mask) = rest.first_chunk() else {
            return Ok(None);
        };
        Ok(Some(Self {
            fin,
            deflated,
            opcode,
            len,
            mask,
        }))
    }

    /// The length behind the two first bytes, and what follows it. Section 5.2: "the minimal number of bytes MUST
    /// be used to encode the length", and the top bit of 64 must be 0.
    fn length(short: u8, bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
        let (len, rest, least) = match short {
            126 => match bytes.split_first_chunk() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest, 126),
                None => return Ok(None),
            },
            127 => match bytes.split_first_chunk() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest, 1 << 16),
                None => return Ok(None),
            },
            _ => (u64::from(short), bytes, 0),
        };
        if len < least {
            return Err(Violation::protocol(
                "length is not encoded in the fewest bytes",
            ));
        }
        if len >> 63 != 0 {
            return Err(Violation::protocol("length has its top bit set"));
        }
        Ok(Some((len, rest)))
    }
}

/// Takes the mask off in place (RFC 6455 section 5.3), eight bytes a step where there are eight.
///
/// `mask` begins at the first byte of `payload`; see [`rotated`] for a payload that comes in pieces.
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// The mask for the bytes that follow `done` masked ones.
pub(super) fn rotated(mut mask: [u8; 4], done: usize) -> [u8; 4] {
    mask.rotate_left(done % 4);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn unmasking_in_pieces_is_the_bytewise_definition(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            mask: [u8; 4],
            cut in 0usize..200,
        ) {
            let expected: Vec<u8> = payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]).collect();
            let mut unmasked = payload.clone();
            let cut = cut.min(unmasked.len());
            let (head, tail) = unmasked.split_at_mut(cut);
            unmask(head, mask);
            unmask(tail, rotated(mask, cut));
            prop_assert_eq!(unmasked, expected);
        }
    }

    #[test]
    fn a_head_is_refused_at_the_byte_that_is_wrong() {
        let refused_after =
            |bytes: &[u8]| (0..=bytes.len()).find(|&n| Head::parse(&bytes[..n], false).is_err());
        assert_eq!(refused_after(&[0x83, 0x80, 0, 0, 0, 0]), Some(1), "opcode");
        assert_eq!(refused_after(&[0xC1, 0x80, 0, 0, 0, 0]), Some(1), "RSV1");
        assert_eq!(
            refused_after(&[0x09, 0x80, 0, 0, 0, 0]),
            Some(1),
            "fragmented ping"
        );
        assert_eq!(refused_after(&[0x81, 0x00]), Some(2), "not masked");
        assert_eq!(refused_after(&[0x89, 0xFE]), Some(2), "long ping");
        assert_eq!(
            refused_after(&[0x81, 0xFE, 0, 125, 0, 0, 0, 0]),
            Some(4),
            "not minimal"
        );
        let long = [0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0];
        assert_eq!(refused_after(&long), Some(10), "not minimal");
        let negative = [0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(refused_after(&negative), Some(10), "top bit");
    }
}
