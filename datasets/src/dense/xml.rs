//! As much of XML as annotations are written in: elements with texts. Attributes, comments, processing
//! instructions and document types are passed over; no entity is defined, so none grows.

/// Elements deeper than this are refused.
const DEPTH: usize = 32;

/// An element.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    /// The first child of a name.
    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|c| c.name == name)
    }

    /// The text of the first child of a name.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|c| c.text.trim())
    }
}

/// The root element of a text.
///
/// # Errors
/// What is wrong, with the line.
pub(super) fn parse(text: &str) -> Result<Element, String> {
    let line = |at: usize| text[..at].matches('\n').count() + 1;
    let mut open: Vec<Element> = vec![Element::default()];
    let mut at = 0;
    while let Some(start) = text[at..].find('<').map(|i| at + i) {
        if let Some(top) = open.last_mut() {
            top.text.push_str(&plain(&text[at..start]));
        }
        let rest = &text[start..];
        let until = |end: &str| {
            let found = rest.find(end).map(|i| start + i + end.len());
            found.ok_or_else(|| format!("line {}: `{end}` is missing", line(start)))
        };
        if rest.starts_with("<!--") {
            at = until("-->")?;
        } else if rest.starts_with("<![CDATA[") {
            at = until("]]>")?;
            if let Some(top) = open.last_mut() {
                top.text.push_str(&text[start + 9..at - 3]);
            }
        } else if rest.starts_with("<?") {
            at = until("?>")?;
        } else if rest.starts_with("<!") {
            at = until(">")?;
        } else if rest.starts_with("</") {
            at = until(">")?;
            let name = text[start + 2..at - 1].trim();
            match open.pop() {
                Some(done) if !open.is_empty() && done.name == name => {
                    if let Some(top) = open.last_mut() {
                        top.children.push(done);
                    }
                }
                _ => return Err(format!("line {}: </{name}> closes nothing", line(start))),
            }
        } else {
            at = until(">")?;
            let inside = &text[start + 1..at - 1];
            let (inside, closed) = inside.strip_suffix('/').map_or((inside, false), |i| (i, true));
            let name = inside.split_whitespace().next().unwrap_or_default().to_string();
            let made = Element { name, ..Element::default() };
            if open.len() > DEPTH {
                return Err(format!("line {}: more than {DEPTH} elements inside one another", line(start)));
            }
            match open.last_mut() {
                Some(top) if closed => top.children.push(made),
                _ => open.push(made),
            }
        }
    }
    match &mut open[..] {
        [top] if top.children.len() == 1 => Ok(top.children.remove(0)),
        [_] => Err("expected one element around all".into()),
        [.., last] => Err(format!("<{}> is not closed", last.name)),
        [] => Err("empty".into()),
    }
}

/// A text with XML's five named entities read.
fn plain(text: &str) -> String {
    if !text.contains('&') {
        return text.to_string();
    }
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    named.iter().fold(text.to_string(), |t, (entity, sign)| t.replace(entity, sign))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn elements_and_texts() {
        let made = parse(
            "<?xml version=\"1.0\"?>\n<!-- <a> -->\n<a x=\"1\"><b>1 &lt; 2 &amp;lt;</b><c/>\
             <b><![CDATA[<>]]></b></a>\n",
        )
        .unwrap();
        assert_eq!((made.name.as_str(), made.children.len()), ("a", 3));
        assert_eq!(made.text_of("b"), Some("1 < 2 &lt;"));
        assert_eq!((made.children[2].text.as_str(), made.text_of("d")), ("<>", None));
    }

    #[test]
    fn what_is_not_whole() {
        for (text, part) in [
            ("<a>\n<b></a>", "line 2: </a> closes nothing"),
            ("<a><b>", "<b> is not closed"),
            ("<a>\n<b", "line 2: `>` is missing"),
            ("<a/><b/>", "one element"),
            ("", "one element"),
            ("</a>", "closes nothing"),
            ("<!-- a", "`-->` is missing"),
        ] {
            let e = parse(text).unwrap_err();
            assert!(e.contains(part), "{text}: {e}");
        }
        assert!(parse(&"<a>".repeat(100_000)).unwrap_err().contains("inside one another"));
    }

    proptest! {
        #[test]
        fn no_text_ends_the_program(text in "[<>/!&a\\-\\[\\]?é \n]{0,60}") {
            let _ = parse(&text);
        }
    }
}
