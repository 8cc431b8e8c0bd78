//! JSON that has to stay one line, whoever reads it, and a short one.

use std::fmt;

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

/// A text that takes no more than so many bytes of a line: what does not fit is left out, and an ellipsis says so.
/// As a writer it takes what a value shows of itself, and ends it there: nothing longer is ever made.
#[derive(Debug)]
pub(crate) struct Short {
    text: String,
    left: usize,
    cut: bool,
}

impl Short {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            text: String::new(),
            left: bytes,
            cut: false,
        }
    }

    /// A text that is there already; one that fits is not copied.
    pub(crate) fn of(text: String, bytes: usize) -> String {
        let len = |text: &str| text.chars().map(escaped_len).sum::<usize>();
        if text.len() <= bytes && len(&text) <= bytes {
            return text;
        }
        let mut short = Self::new(bytes);
        // That it was cut is said in it.
        let _ = fmt::Write::write_str(&mut short, &text);
        short.into_text()
    }

    pub(crate) fn into_text(mut self) -> String {
        if self.cut {
            self.text.push('…');
        }
        self.text
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.cut {
            return Err(fmt::Error);
        }
        let mut fitting = 0;
        for c in text.chars() {
            let len = escaped_len(c);
            if len > self.left {
                self.cut = true;
                break;
            }
            self.left -= len;
            fitting += c.len_utf8();
        }
        self.text.push_str(&text[..fitting]);
        if self.cut { Err(fmt::Error) } else { Ok(()) }
    }
}

/// How many bytes a character takes in JSON on a line.
fn escaped_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\u{0}'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => 6,
        _ => c.len_utf8(),
    }
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

    proptest! {
        #[test]
        fn a_short_text_takes_no_more_of_a_line(text in "\\PC{0,40}|[\u{0}-\u{20}\u{2028}\u{85}\\\\\"aé€]{0,40}", bytes in 0_usize..80) {
            let mut out = serde_json::to_vec(&text).unwrap();
            escape_line_separators(&mut out, 0);
            let fits = out.len() - 2 <= bytes;
            let short = Short::of(text.clone(), bytes);
            prop_assert_eq!(short == text, fits, "{:?}", short);
            let mut out = serde_json::to_vec(&short).unwrap();
            escape_line_separators(&mut out, 0);
            prop_assert!(out.len() - 2 <= bytes + '…'.len_utf8(), "{:?}", short);
        }
    }
}
