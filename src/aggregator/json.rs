//! How numbers, times and texts look in JSON.

use serde::Serializer;

/// Microseconds as milliseconds with up to three decimals.
pub(crate) fn ms(us: f64) -> f64 {
    us.round() / 1_000.0
}

/// Nano-units of the currency as a number.
pub(crate) fn money(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// With up to six decimals.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// A part of a whole, 0..1; `None` of nothing.
pub(crate) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| rounded(part as f64 / whole as f64))
}

/// `250`, not `250.0`: a client in Go that expects an integer would refuse the latter.
pub(crate) fn plain<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    // Up to 2^53 an integer is the same number.
    if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f64(*value)
    }
}

/// The same for what may be unknown.
pub(crate) fn plain_option<S: Serializer>(
    value: &Option<f64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => plain(value, serializer),
        None => serializer.serialize_none(),
    }
}

/// RFC 3339 in UTC with milliseconds, as WebSocket envelopes have it.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    let (days, rest) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days to a date of the Gregorian calendar, in years that begin in March (Hinnant, "chrono-compatible dates").
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// How many bytes a text takes inside a JSON string, where U+0085, U+2028 and U+2029 are escaped, too. Beyond `max` it
/// does not look on: something above `max`, then.
pub(crate) fn escaped_len(text: &str, max: usize) -> usize {
    let mut len = 0;
    for c in text.chars() {
        len += escaped_char_len(c);
        if len > max {
            break;
        }
    }
    len
}

fn escaped_char_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\u{8}' | '\u{9}' | '\u{a}' | '\u{c}' | '\u{d}' => 2,
        '\0'..' ' | '\u{85}' | '\u{2028}' | '\u{2029}' => 6,
        c => c.len_utf8(),
    }
}

/// Cuts a text that would take more than so many bytes in JSON, and marks the cut with `…`.
pub(crate) fn cut(text: &str, max: usize) -> std::borrow::Cow<'_, str> {
    if text.len() * 6 <= max || escaped_len(text, max) <= max {
        return text.into();
    }
    let mut len = '…'.len_utf8();
    let end = text
        .char_indices()
        .find(|&(_, c)| {
            len += escaped_char_len(c);
            len > max
        })
        .map_or(text.len(), |(at, _)| at);
    format!("{}…", &text[..end]).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_770_287_400_000), "2026-02-05T10:30:00.000Z");
        assert_eq!(rfc3339(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn milliseconds_keep_three_decimals() {
        assert_eq!(ms(350.0), 0.35);
        assert_eq!(ms(250_123.4), 250.123);
        assert_eq!(money(12_450_000_000), 12.45);
    }

    proptest! {
        #[test]
        fn a_cut_text_fits(text in "\\PC{0,60}|[\\x00-\\x20\"\\\\a\u{85}\u{2028}]{0,60}", max in 3usize..200) {
            let cut = cut(&text, max);
            prop_assert!(escaped_len(&cut, max) <= max);
            let mut json = b"before".to_vec();
            serde_json::to_writer(&mut json, &cut).unwrap();
            crate::json_line::escape_line_separators(&mut json, 6);
            prop_assert_eq!(json.len() - 8, escaped_len(&cut, max));
            let back: String = serde_json::from_slice(&json[6..]).unwrap();
            prop_assert_eq!(&back, &*cut);
            if escaped_len(&text, max) <= max {
                prop_assert_eq!(&*cut, &text);
            }
        }
    }
}
