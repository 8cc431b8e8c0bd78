//! Assets: the page's files as they are served, made once from the sources under `page/`.

use std::sync::OnceLock;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::squeeze;

/// The page's modules, each after those that it imports.
const MODULES: &[(&str, &str)] = &[
    ("dom.js", include_str!("page/dom.js")),
    ("format.js", include_str!("page/format.js")),
    ("filter.js", include_str!("page/filter.js")),
    ("store.js", include_str!("page/store.js")),
    ("api.js", include_str!("page/api.js")),
    ("stream.js", include_str!("page/stream.js")),
    ("link.js", include_str!("page/link.js")),
    ("worker.js", include_str!("page/worker.js")),
    ("table.js", include_str!("page/table.js")),
    ("charts.js", include_str!("page/charts.js")),
    ("export.js", include_str!("page/export.js")),
    ("panels.js", include_str!("page/panels.js")),
    ("feed.js", include_str!("page/feed.js")),
    ("controls.js", include_str!("page/controls.js")),
    ("connection.js", include_str!("page/connection.js")),
    ("app.js", include_str!("page/app.js")),
    ("main.js", include_str!("page/main.js")),
];

/// The page itself, with places for what depends on the mount.
pub(super) const INDEX: &str = include_str!("page/index.html");

/// One file, ready to be sent.
#[derive(Debug)]
pub(super) struct Asset {
    /// Where it lies, relative to the page. The name holds a hash of the bytes, so it may be kept for ever.
    pub(super) path: String,
    pub(super) body: Body,
    pub(super) content_type: &'static str,
}

/// Bytes, and what they are compressed, both shared by all answers.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) plain: Bytes,
    pub(super) hash: String,
    #[cfg(feature = "compression")]
    pub(super) gzip: Bytes,
}

impl Body {
    pub(super) fn new(text: String) -> Self {
        let plain = Bytes::from(text);
        Self {
            hash: hash(&plain),
            #[cfg(feature = "compression")]
            gzip: gzip(&plain),
            plain,
        }
    }
}

#[derive(Debug)]
pub(super) struct Assets {
    pub(super) script: Asset,
    pub(super) style: Asset,
    pub(super) icon: Asset,
}

impl Assets {
    /// Made with the first page that asks for them: about a millisecond.
    pub(super) fn get() -> &'static Self {
        static ASSETS: OnceLock<Assets> = OnceLock::new();
        ASSETS.get_or_init(|| Self {
            script: Asset::hashed(
                "app",
                "js",
                "text/javascript; charset=utf-8",
                squeeze::script(&bundle(MODULES)),
            ),
            style: Asset::hashed(
                "style",
                "css",
                "text/css; charset=utf-8",
                squeeze::style(include_str!("page/style.css")),
            ),
            icon: Asset::hashed(
                "icon",
                "svg",
                "image/svg+xml",
                include_str!("page/favicon.svg").to_owned(),
            ),
        })
    }

    pub(super) fn all(&self) -> [&Asset; 3] {
        [&self.script, &self.style, &self.icon]
    }
}

impl Asset {
    fn hashed(name: &str, extension: &str, content_type: &'static str, text: String) -> Self {
        let body = Body::new(text);
        Self {
            path: format!("assets/{name}.{}.{extension}", body.hash),
            body,
            content_type,
        }
    }
}

/// One module of many: imports and exports fall away, because all names of the page's modules differ. One file is one
/// request, and one that the SharedWorker can run as well.
fn bundle(modules: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (_, source) in modules {
        let mut in_import = false;
        for line in source.lines() {
            in_import |= line.starts_with("import ");
            if !in_import {
                out.push_str(line.strip_prefix("export ").unwrap_or(line));
                out.push('\n');
            }
            in_import &= !line.ends_with(';');
        }
    }
    out
}

/// The first 48 bits of the SHA-256, in hex: a name that changes with the content.
fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(feature = "compression")]
fn gzip(bytes: &[u8]) -> Bytes {
    use std::io::Write;

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    // Writing into a vector does not fail; should it ever, an empty body is never sent (see `respond`).
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.map(Bytes::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What the whole page may weigh on the wire.
    const BUDGET: usize = 25_000;

    #[test]
    fn names_hold_the_hash_of_the_bytes() {
        for asset in Assets::get().all() {
            let digest = Sha256::digest(&asset.body.plain);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let named = asset
                .path
                .split('.')
                .nth(1)
                .expect("a name, a hash, an extension");
            assert_eq!(named.len(), 12);
            assert!(hex.starts_with(named), "{}", asset.path);
        }
    }

    #[test]
    fn the_page_fits_its_budget() {
        use std::io::Write;

        let assets = Assets::get();
        let page = squeeze::markup(INDEX);
        let bodies = [
            &assets.script.body.plain[..],
            &assets.style.body.plain,
            &assets.icon.body.plain,
            page.as_bytes(),
        ];
        let weights = bodies.map(|bytes| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(bytes).expect("a vector takes everything");
            encoder.finish().expect("a vector takes everything").len()
        });
        let total: usize = weights.iter().sum();
        assert!(total <= BUDGET, "{total} bytes: {weights:?}");
    }

    /// The bundle takes imports and exports away, which is only right while no two modules use the same name at their
    /// top level, everything imported is there, and comes earlier.
    #[test]
    fn modules_can_be_bundled() {
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        let mut exported: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (file, source) in MODULES {
            for line in source.lines() {
                let (is_exported, line) = line
                    .strip_prefix("export ")
                    .map_or((false, line), |line| (true, line));
                let line = line.strip_prefix("async ").unwrap_or(line);
                let Some(rest) = ["const ", "let ", "function ", "class "]
                    .iter()
                    .find_map(|word| line.strip_prefix(word))
                else {
                    assert!(
                        !is_exported,
                        "{file}: only declarations are exported, not {line:?}"
                    );
                    continue;
                };
                let declared = rest.split([';', '=', '(', '{']).next().unwrap_or(rest);
                for name in declared.split(',') {
                    let name = name.split_whitespace().next().unwrap_or_default();
                    if let Some(other) = names.insert(name, file) {
                        panic!("{name} is in {other} and in {file}");
                    }
                    if is_exported {
                        exported.entry(file).or_default().push(name);
                    }
                }
            }
            for import in source
                .split("\nimport ")
                .skip(1)
                .map(|rest| rest.split(';').next().unwrap_or(rest))
            {
                let (wanted, from) = import
                    .split_once(" from \"./")
                    .expect("import { … } from \"./…\"");
                let known = exported
                    .get(from.trim_end_matches('"'))
                    .unwrap_or_else(|| panic!("{file}: {from} comes later"));
                let wanted = wanted.trim_start_matches('{').trim_end_matches('}');
                for name in wanted
                    .split(',')
                    .map(str::trim)
                    .filter(|name| !name.is_empty())
                {
                    assert!(known.contains(&name), "{file}: {from} exports no {name}");
                }
            }
        }
        let script = std::str::from_utf8(&Assets::get().script.body.plain).expect("text");
        assert!(!script.contains("import ") && !script.contains("export "));
    }

    /// What the content security policy forbids, and what would let text become markup.
    #[test]
    fn sources_hold_nothing_that_the_policy_forbids() {
        let style = include_str!("page/style.css");
        let all = MODULES
            .iter()
            .copied()
            .chain([("index.html", INDEX), ("style.css", style)]);
        for (file, source) in all {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "style=\"",
                "javascript:",
                "<style",
                "onclick=\"",
                "onload=\"",
                "srcdoc",
                "@import",
            ] {
                assert!(!source.contains(word), "{file} has {word}");
            }
            let foreign: Vec<&str> = source
                .match_indices("://")
                .map(|(at, _)| {
                    &source[source[..at]
                        .rfind(['"', '`', ' '])
                        .map_or(0, |from| from + 1)..]
                })
                .filter(|url| {
                    !url.starts_with("http://www.w3.org/2000/svg")
                        && !url.starts_with("https://docs.rs/")
                })
                .filter(|url| !url.starts_with("http://127.0.0.1"))
                .map(|url| url.split(['"', '`', ' ']).next().unwrap_or(url))
                .collect();
            assert!(foreign.is_empty(), "{file} names {foreign:?}");
        }
        assert_eq!(INDEX.matches("<script").count(), 1);
        assert!(
            INDEX.contains(
                "<script type=\"module\" blocking=\"render\" src=\"{{script}}\"></script>"
            )
        );
    }

    #[test]
    fn everything_has_a_name_for_those_who_do_not_see_it() {
        for tag in [
            "<input ",
            "<button ",
            "<section ",
            "<div class=\"scroll\"",
            "<table",
        ] {
            for (at, _) in INDEX.match_indices(tag) {
                let end = INDEX[at..].find('>').map_or(INDEX.len(), |end| at + end);
                let (head, rest) = (&INDEX[at..end], &INDEX[end + 1..]);
                let id = head
                    .split("id=\"")
                    .nth(1)
                    .and_then(|rest| rest.split('"').next())
                    .unwrap_or_default();
                let named = match tag {
                    "<input " => {
                        INDEX.contains(&format!("for=\"{id}\"")) || INDEX[..at].ends_with("<label>")
                    }
                    // Filled with words by a script, or at once.
                    "<button " => !rest.starts_with('<') || id == "more" || id == "theme",
                    "<section " => rest.trim_start().starts_with("<div class=\"head\">"),
                    // Each gets a caption by a script.
                    _ => tag == "<table",
                };
                assert!(named || head.contains("aria-label"), "{head}");
            }
        }
        assert!(
            INDEX.contains("<html lang=\"en\">")
                && INDEX.contains("<main id=\"main\"")
                && INDEX.contains("href=\"#main\"")
        );
        let table = MODULES
            .iter()
            .find(|(file, _)| *file == "table.js")
            .expect("there")
            .1;
        assert!(
            table.contains("scope: \"col\"")
                && table.contains("aria-sort")
                && table.contains("el(\"caption\"")
        );
    }

    /// Colours as numbers, by name: light and dark.
    fn colours() -> BTreeMap<&'static str, [[f64; 3]; 2]> {
        let style = include_str!("page/style.css");
        let hex = |text: &str| {
            let digits = text.trim().trim_start_matches('#');
            [0, 2, 4].map(|at| {
                f64::from(u8::from_str_radix(&digits[at..at + 2], 16).expect("six digits")) / 255.0
            })
        };
        style
            .lines()
            .filter_map(|line| {
                line.trim()
                    .strip_prefix("--")?
                    .strip_suffix(");")?
                    .split_once(": light-dark(")
            })
            .map(|(name, pair)| {
                let (light, dark) = pair.split_once(", ").expect("two colours");
                (name, [hex(light), hex(dark)])
            })
            .collect()
    }

    /// WCAG 2.2, "contrast ratio".
    fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
        let luminance = |rgb: [f64; 3]| {
            let [r, g, b] = rgb.map(|c| {
                if c <= 0.040_45 {
                    c / 12.92
                } else {
                    ((c + 0.055) / 1.055).powf(2.4)
                }
            });
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn colours_can_be_told_from_their_ground() {
        let colours = colours();
        assert_eq!(
            colours.len(),
            19,
            "every pair is read: {:?}",
            colours.keys()
        );
        let text = ["fg", "dim", "ok", "warn", "bad", "accent"];
        let shapes = ["s2", "s3", "s4", "s5", "p50", "p95", "p99", "edge"];
        for theme in [0, 1] {
            for ground in ["card", "raised", "page"] {
                for name in text {
                    let ratio = contrast(colours[name][theme], colours[ground][theme]);
                    assert!(
                        ratio >= 4.5,
                        "{name} on {ground}, theme {theme}: {ratio:.2}"
                    );
                }
            }
            for name in shapes {
                let ratio = contrast(colours[name][theme], colours["card"][theme]);
                assert!(ratio >= 3.0, "{name} on card, theme {theme}: {ratio:.2}");
            }
            let ratio = contrast(colours["on-accent"][theme], colours["accent"][theme]);
            assert!(
                ratio >= 4.5,
                "on-accent on accent, theme {theme}: {ratio:.2}"
            );
        }
    }
}
