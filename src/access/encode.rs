//! Bytes as text that fits into URLs and headers.

const HEX: &[u8; 16] = b"0123456789abcdef";
/// RFC 4648, section 5.
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(HEX[usize::from(digit)]))
        .collect()
}

/// URL-safe base64 without padding.
pub(super) fn base64url(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for place in 0..=chunk.len() {
            let digit = (bits >> (18 - 6 * place)) & 63;
            text.push(char::from(URL_SAFE[digit as usize]));
        }
    }
    text
}

/// The bytes of a text of [`base64url`]. There is one text for each sequence of bytes: what has bits to spare is
/// refused, so that a signed text cannot be changed and stay valid.
pub(super) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        if chunk.len() == 1 {
            return None;
        }
        let mut bits = 0_u32;
        for (place, digit) in chunk.iter().enumerate() {
            bits |= digit_value(*digit)? << (18 - 6 * place);
        }
        let group = bits.to_be_bytes();
        bytes.extend_from_slice(&group[1..chunk.len()]);
        if group[chunk.len()..].iter().any(|byte| *byte != 0) {
            return None;
        }
    }
    Some(bytes)
}

fn digit_value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64url(bytes.as_bytes()), text);
            assert_eq!(from_base64url(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(base64url(&[251, 255, 254]), "-__-");
        assert_eq!(hex(&[0, 15, 255]), "000fff");
    }

    #[test]
    fn only_the_one_text_of_some_bytes_is_read() {
        for text in [
            "Z", "Zh", "Zm9", "Zg==", "Zm8=", "Z g", "Zm9v+", "Zm9v/", "Zm9v\n", "Zgü",
        ] {
            assert_eq!(from_base64url(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_are_read_back(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(from_base64url(&base64url(&bytes)), Some(bytes));
        }

        #[test]
        fn what_is_read_is_written_the_same(text in "[A-Za-z0-9_-]{0,16}") {
            if let Some(bytes) = from_base64url(&text) {
                prop_assert_eq!(base64url(&bytes), text);
            }
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = from_base64url(&text);
        }
    }
}
