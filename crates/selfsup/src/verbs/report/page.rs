//! The page: style, scripts and data in one file. Nothing is fetched, which its content policy also forbids.

use super::run::Collected;
use super::samples::Galleries;
use super::text;
use selfsup_core::{Error, Result};
use serde_json::json;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPTS: [&str; 5] = [
    include_str!("parts.js"),
    include_str!("charts.js"),
    include_str!("map.js"),
    include_str!("tables.js"),
    include_str!("main.js"),
];

/// The page about these runs.
///
/// # Errors
/// Never for numbers that JSON holds.
pub(super) fn page(runs: &[&Collected], galleries: &Galleries) -> Result<String> {
    let data = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "runs": runs,
        "galleries": galleries.all(),
    });
    let data = serde_json::to_string(&data).map_err(|e| Error::Other(format!("the page's data: {e}")))?;
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let plain: Vec<String> = runs.iter().map(|run| text::shown(run)).collect();
    Ok(filled(
        PAGE,
        &[
            ("{{title}}", &escaped(&names.join(", "))),
            ("{{style}}", STYLE),
            ("{{plain}}", &escaped(&plain.join("\n"))),
            ("{{data}}", &in_script(&data)),
            ("{{script}}", &SCRIPTS.join("\n")),
        ],
    ))
}

/// The template with its places filled, each once: what is filled in is not looked through for places again.
fn filled(template: &str, parts: &[(&str, &str)]) -> String {
    let mut out =
        String::with_capacity(template.len() + parts.iter().map(|(_, part)| part.len()).sum::<usize>());
    let mut rest = template;
    for (place, part) in parts {
        let (before, after) = rest.split_once(place).unwrap_or((rest, ""));
        out.push_str(before);
        out.push_str(part);
        rest = after;
    }
    out + rest
}

/// Text in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// JSON in a script element: without `<` there is neither `</script>` nor `<!--` in it. In JSON `<` stands in
/// strings only, where `\u003c` means the same.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn what_names_say_stays_text() {
        let hostile = "</script><b>&\"{{script}}<!--";
        let run = Collected { name: hostile.into(), ..Collected::default() };
        let page = page(&[&run], &Galleries::default()).unwrap();
        assert!(!page.contains("</script><b>"), "it ends the script");
        assert!(
            page.contains("<title>&lt;/script&gt;&lt;b&gt;&amp;&quot;{{script}}&lt;!--"),
            "{}",
            &page[..600]
        );
        let (_, data) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
        let (data, _) = data.split_once("</script>").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["runs"][0]["name"], hostile);
    }

    #[test]
    fn every_place_is_filled_and_nothing_is_fetched() {
        let page = page(&[&Collected::default()], &Galleries::default()).unwrap();
        assert!(!page.contains("{{"));
        for outside in ["http://", "https://", "src=\"//", "@import", "<link"] {
            let found = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(outside), "{outside}");
        }
        assert!(page.contains("default-src 'none'"));
    }
}
