//! JSON that has to stay one line, whoever reads it.

/// Replaces U+2028, U+2029 and U+0085 from `start` on by their JSON escapes: some readers end a line at them. They
/// can only stand inside strings there.
pub(crate) fn escape_line_separators(out: &mut Vec<u8>, start: usize) {
    let is_lead = |byte: &u8| *byte == 0xE2 || *byte == 0xC2;
    if !out[start..].iter().any(is_lead) {
        return;
    }
    let text = out.split_off(start);
    let mut rest = &text[..];
    while let Some(at) = rest.iter().position(is_lead) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let (escape, len): (&[u8], usize) = match rest {
            [0xE2, 0x80, 0xA8, ..] => (b"\\u2028", 3),
            [0xE2, 0x80, 0xA9, ..] => (b"\\u2029", 3),
            [0xC2, 0x85, ..] => (b"\\u0085", 2),
            _ => (&rest[..1], 1),
        };
        out.extend_from_slice(escape);
        rest = &rest[len..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn line_separators_never_reach_the_wire() {
        let mut out = b"data: ".to_vec();
        let start = out.len();
        out.extend_from_slice("{\"m\":\"a\u{2028}b\u{2029}c\u{85}d\u{20ac}é\"}".as_bytes());
        escape_line_separators(&mut out, start);
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line, "data: {\"m\":\"a\\u2028b\\u2029c\\u0085d\u{20ac}é\"}");
    }

    proptest! {
        #[test]
        fn escaping_keeps_the_meaning(text in "\\PC*|[\u{2028}\u{2029}\u{85}\u{80}\u{2030}a]{0,40}") {
            let mut out = serde_json::to_vec(&text).unwrap();
            escape_line_separators(&mut out, 0);
            let line = std::str::from_utf8(&out).unwrap();
            let breaks = line.contains(['\u{2028}', '\u{2029}', '\u{85}', '\n', '\r']);
            prop_assert!(!breaks, "a line break is left");
            prop_assert_eq!(serde_json::from_str::<String>(line).unwrap(), text);
        }
    }
}
