//! Squeeze: the page's sources are written for readers; what is served leaves out their comments and indentation.
//!
//! No names are changed and nothing is moved, so an error in a browser's console can still be found in the source.

/// JavaScript without comments and without the space that means nothing.
///
/// Line ends stay where a statement could end there, so automatic semicolons cannot change. It knows strings,
/// templates and regular expressions, and takes for granted that the source parses.
pub(super) fn script(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '"' | '\'' => string_len(rest, first),
            '`' => template_len(rest),
            '/' if rest.starts_with("//") => {
                rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
                continue;
            }
            '/' if rest.starts_with("/*") => {
                rest = rest.find("*/").map_or("", |at| &rest[at + 2..]);
                continue;
            }
            '/' if expects_value(&out) => regex_len(rest),
            _ if first.is_ascii_whitespace() => {
                let next = rest.trim_ascii_start();
                let gap = &rest[..rest.len() - next.len()];
                push_space(&mut out, gap.contains('\n'), next.chars().next());
                rest = next;
                continue;
            }
            _ => {
                // `[a, b,]` and `{ f(); }` say nothing more than `[a,b]` and `{f()}`.
                let needless = match first {
                    '}' => [';', ','].as_slice(),
                    ')' | ']' => &[','],
                    _ => &[],
                };
                if out.ends_with(needless) {
                    out.pop();
                }
                first.len_utf8()
            }
        };
        out.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    out
}

/// CSS without comments and without the space that means nothing.
pub(super) fn style(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, comment)) = rest.split_once("/*") {
        out.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    let mut joined: String = out.lines().map(str::trim).collect();
    for (long, short) in [
        (": ", ":"),
        (" {", "{"),
        ("{ ", "{"),
        ("; ", ";"),
        (" }", "}"),
        (";}", "}"),
        (", ", ","),
    ] {
        joined = joined.replace(long, short);
    }
    joined
}

/// HTML without indentation.
pub(super) fn markup(source: &str) -> String {
    source
        .lines()
        .flat_map(|line| [line.trim_start(), "\n"])
        .collect()
}

fn push_space(out: &mut String, has_line_end: bool, next: Option<char>) {
    let last = out.chars().next_back().unwrap_or('\n');
    let next = next.unwrap_or('\n');
    if has_line_end {
        if !"\n{([,;".contains(last) && !")]}".contains(next) {
            out.push('\n');
        }
    } else if (is_word(last) && is_word(next)) || (last == next && "+-".contains(last)) {
        out.push(' ');
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Whether a `/` that comes now begins a regular expression rather than divides.
fn expects_value(out: &str) -> bool {
    let out = out.trim_ascii_end();
    out.ends_with(['(', ',', '=', ':', '[', '!', '&', '|', '?', '{', ';', '>'])
        || out.ends_with("return")
}

/// The length of a string, its quotes included.
fn string_len(text: &str, quote: char) -> usize {
    delimited_len(text, |c, _| c == quote)
}

fn regex_len(text: &str) -> usize {
    delimited_len(text, |c, in_class| c == '/' && !in_class)
}

fn delimited_len(text: &str, ends: impl Fn(char, bool) -> bool) -> usize {
    let mut escaped = false;
    let mut in_class = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if ends(c, in_class) => return at + c.len_utf8(),
            '[' => in_class = true,
            ']' => in_class = false,
            _ => {}
        }
    }
    text.len()
}

/// The length of a template literal, with whatever is nested in its `${…}`.
fn template_len(text: &str) -> usize {
    let mut at = 1;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with('`') {
            return at + 1;
        }
        at += if let Some(escaped) = rest.strip_prefix('\\') {
            1 + escaped.chars().next().map_or(0, char::len_utf8)
        } else if let Some(expression) = rest.strip_prefix("${") {
            2 + expression_len(expression)
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
    }
    text.len()
}

/// The length of what stands between `${` and its `}`, that one included.
fn expression_len(text: &str) -> usize {
    let mut at = 0;
    let mut depth = 1;
    while let Some(c) = text[at..].chars().next() {
        at += match c {
            '`' => template_len(&text[at..]),
            '"' | '\'' => string_len(&text[at..], c),
            _ => {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                c.len_utf8()
            }
        };
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_keep_what_they_mean() {
        let cases = [
            (
                "const a = 1;\n\n  // why\nconst b = a + +c;\n",
                "const a=1;const b=a+ +c;",
            ),
            (
                "if (x) return /\\/ [/ ] \"/.test(y) / 2;",
                "if(x)return/\\/ [/ ] \"/.test(y)/2;",
            ),
            (
                "f(\n  `a  ${g({ b: \"}  `\" })}  // c`,\n);\n",
                "f(`a  ${g({ b: \"}  `\" })}  // c`);",
            ),
            ("a()\n[b].c()", "a()\n[b].c()"),
            ("return (\n  x\n);", "return(x);"),
            (
                "const s = \"//  no \\\" comment\"; /* x\n y */ t();",
                "const s=\"//  no \\\" comment\";t();",
            ),
            (
                "x = [1, 2,];\nclass A {\n  b = 1;\n}\nnew A()",
                "x=[1,2];class A{b=1}\nnew A()",
            ),
            (
                "`${a ? `${b}  ` : \"  \"}` + 'ä  ö'",
                "`${a ? `${b}  ` : \"  \"}`+'ä  ö'",
            ),
        ];
        for (source, squeezed) in cases {
            assert_eq!(script(source), squeezed, "{source}");
        }
    }

    #[test]
    fn styles_keep_what_they_mean() {
        let source = "/* why */\na:hover > b {\n  color: red; /* c */\n  margin: 0 -1px;\n}\n@media (x: y) { p { top: 0; } }\n";
        assert_eq!(
            style(source),
            "a:hover > b{color:red;margin:0 -1px}@media (x:y){p{top:0}}"
        );
    }

    #[test]
    fn unfinished_sources_do_not_panic() {
        for source in [
            "\"a", "`a ${", "`a ${b", "/* a", "x = /a", "// a", "`\\", "\"\\",
        ] {
            script(source);
        }
        style("a { /* b");
    }
}
