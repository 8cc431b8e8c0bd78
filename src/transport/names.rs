//! Names: the channels that a client lists, bounded before anything is made of them.

use std::collections::HashSet;

/// The most channels of one list. Whoever wants more of them reads `all`.
pub(crate) const MAX_NAMES: usize = 256;

/// The longest name. No channel has a longer one.
const MAX_NAME_BYTES: usize = 64;

/// Each name once, where it stood first; or what the list takes, for a sentence that names where it stood.
pub(crate) fn bounded<'a>(
    names: impl IntoIterator<Item = &'a str>,
    most: usize,
) -> Result<Vec<String>, String> {
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for name in names {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(format!("takes names of 1 to {MAX_NAME_BYTES} bytes"));
        }
        if !seen.insert(name) {
            continue;
        }
        if kept.len() == most {
            return Err(format!("takes at most {most} channels, or 'all'"));
        }
        kept.push(name.to_owned());
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_short_and_says_each_name_once() {
        assert_eq!(bounded(["b", "a", "b"], 2).unwrap(), ["b", "a"]);
        let many: Vec<String> = (0..=MAX_NAMES).map(|n| n.to_string()).collect();
        let many = || many.iter().map(String::as_str);
        assert_eq!(
            bounded(many().take(MAX_NAMES), MAX_NAMES).unwrap().len(),
            MAX_NAMES
        );
        let said = bounded(many(), MAX_NAMES).unwrap_err();
        assert!(said.contains("at most 256"), "{said}");
        // Repeats take no room, however many there are.
        assert_eq!(
            bounded(std::iter::repeat_n("a", 100_000), 1),
            Ok(vec!["a".to_owned()])
        );
        for name in ["", &"x".repeat(65)] {
            let said = bounded([name], 1).unwrap_err();
            assert!(said.contains("64 bytes"), "{said}");
        }
    }
}
