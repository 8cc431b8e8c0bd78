//! One line: a stranger's words in a line of a log.

use std::fmt::{self, Write as _};

/// Shows a text so that it stays in its line and changes nothing about how the line looks: control characters, line
/// separators and marks that turn the direction of writing are escaped as Rust escapes them, and so is the backslash, or
/// a text could look as if it had been escaped. Letters of all scripts, quotes and spaces stay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OneLine<'a>(pub(crate) &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\'' | '"' => f.write_char(c)?,
                c => fmt::Display::fmt(&c.escape_debug(), f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_break_or_turn_a_line_is_escaped_and_names_stay() {
        for (text, shown) in [
            ("Zoë O'Neil \"z\" 李", "Zoë O'Neil \"z\" 李"),
            ("ana\nroot: kick", "ana\\nroot: kick"),
            ("a\r\tb\u{85}c\u{2028}d", "a\\r\\tb\\u{85}c\\u{2028}d"),
            ("\u{1b}[31mred\u{202e}", "\\u{1b}[31mred\\u{202e}"),
            ("a\\nb", "a\\\\nb"),
        ] {
            assert_eq!(OneLine(text).to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn no_text_has_a_second_line(text in "(?s).*") {
            let shown = OneLine(&text).to_string();
            let breaks = |c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}';
            prop_assert!(!shown.contains(breaks), "{}", shown);
        }
    }
}
