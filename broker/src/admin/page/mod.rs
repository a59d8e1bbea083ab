//! The page at `/`: what a broker does, live, in a browser.
//!
//! Its parts are in the binary, and it asks for nothing but these and, once a second, the state in short. Names that
//! users chose are set as text, and the policy that comes with every part would keep anything else from running.

/// A part of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) text: &'static str,
}

/// What a browser may do for the page: load its parts and the state from here, nothing more.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

const fn named(path: &'static str, content_type: &'static str, text: &'static str) -> Part {
    Part {
        path,
        content_type,
        text,
    }
}

/// The page itself.
pub(super) const PAGE: Part = named("/", HTML, include_str!("page.html"));

/// What it loads.
#[rustfmt::skip]
const PARTS: [Part; 11] = [
    named("/page/style.css", STYLE, include_str!("style.css")),
    named("/page/icon.svg", PICTURE, include_str!("icon.svg")),
    named("/page/main.js", SCRIPT, include_str!("main.js")),
    named("/page/rates.js", SCRIPT, include_str!("rates.js")),
    named("/page/format.js", SCRIPT, include_str!("format.js")),
    named("/page/lanes.js", SCRIPT, include_str!("lanes.js")),
    named("/page/charts.js", SCRIPT, include_str!("charts.js")),
    named("/page/table.js", SCRIPT, include_str!("table.js")),
    named("/page/columns.js", SCRIPT, include_str!("columns.js")),
    named("/page/standouts.js", SCRIPT, include_str!("standouts.js")),
    named("/page/lists.js", SCRIPT, include_str!("lists.js")),
];

/// The part of the page that is at a path.
pub(super) fn part(path: &str) -> Option<Part> {
    PARTS.iter().copied().find(|part| part.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The addresses that a text names between such marks.
    fn named_in<'a>(text: &'a str, before: &str, after: char) -> Vec<&'a str> {
        let rest = text.split(before).skip(1);
        rest.filter_map(|rest| rest.split(after).next()).collect()
    }

    #[test]
    fn the_page_loads_its_parts_and_nothing_else() {
        let mut loaded: Vec<String> = Vec::new();
        for before in [
            "src=\"",
            "<link rel=\"icon\" href=\"",
            "<link rel=\"stylesheet\" href=\"",
        ] {
            let named = named_in(PAGE.text, before, '"');
            loaded.extend(named.iter().map(|path| format!("/{path}")));
        }
        for script in PARTS.iter().filter(|part| part.content_type == SCRIPT) {
            let named = named_in(script.text, " from \"./", '"');
            loaded.extend(named.iter().map(|path| format!("/page/{path}")));
        }
        loaded.sort();
        loaded.dedup();
        let mut paths: Vec<_> = PARTS.iter().map(|part| part.path.to_owned()).collect();
        paths.sort();
        assert_eq!(loaded, paths);
    }

    /// The policy would stop these; that they are not there is what keeps the page working under it.
    #[test]
    fn no_part_makes_markup_of_text_or_needs_what_the_policy_forbids() {
        for part in PARTS.iter().chain([&PAGE]) {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "https://",
                "@import",
                "url(",
                " style=\"",
                " onclick",
            ] {
                assert!(!part.text.contains(word), "{} has {word}", part.path);
            }
        }
    }
}
