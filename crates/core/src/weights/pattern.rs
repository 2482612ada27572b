//! Patterns over dotted names: `*` stands for one or more characters other than a dot, `**` for one or more
//! of any.
//!
//! What they stand for is captured in order and filled into the other side of a rule:
//! `encoder.layer.*.output.**` and `blocks.*.out.**`.

use crate::error::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `*`
    One,
    /// `**`
    Any,
}

/// A pattern over dotted names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

impl Pattern {
    /// Reads a pattern. Every text is one; braces must have been expanded (see [`Pattern::expand_braces`]).
    ///
    /// # Errors
    /// [`Error::Config`] for an empty pattern and for wildcards side by side (`***`), whose captures would be
    /// ambiguous.
    pub fn new(text: &str) -> Result<Self> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (part, n) = if rest.starts_with("**") {
                (Part::Any, 2)
            } else if rest.starts_with('*') {
                (Part::One, 1)
            } else {
                let n = rest.find('*').unwrap_or(rest.len());
                (Part::Text(rest[..n].to_string()), n)
            };
            if !matches!(part, Part::Text(_)) && matches!(parts.last(), Some(Part::One | Part::Any)) {
                return Err(Error::config(format!("pattern `{text}`: wildcards side by side")));
            }
            parts.push(part);
            rest = &rest[n..];
        }
        if parts.is_empty() {
            return Err(Error::config("an empty name pattern"));
        }
        Ok(Pattern(parts))
    }

    /// `a.{b,c}.d` as `a.b.d` and `a.c.d`; a text without braces as itself. One pair of braces.
    pub fn expand_braces(text: &str) -> Vec<String> {
        match text.split_once('{').and_then(|(a, rest)| Some((a, rest.split_once('}')?))) {
            Some((head, (list, tail))) => {
                list.split(',').map(|x| format!("{head}{}{tail}", x.trim())).collect()
            }
            None => vec![text.to_string()],
        }
    }

    /// Number of wildcards.
    pub fn wildcards(&self) -> usize {
        self.0.iter().filter(|p| !matches!(p, Part::Text(_))).count()
    }

    /// The kinds of the wildcards, `true` for `**`: two sides of a rule must agree in them.
    pub(super) fn kinds(&self) -> Vec<bool> {
        self.0.iter().filter(|p| !matches!(p, Part::Text(_))).map(|p| *p == Part::Any).collect()
    }

    /// What the wildcards stand for in `name`, if it matches as a whole. Of several ways the one with the
    /// shortest first captures counts.
    pub fn captures(&self, name: &str) -> Option<Vec<String>> {
        fn go(parts: &[Part], name: &str, out: &mut Vec<String>) -> bool {
            let Some((part, rest)) = parts.split_first() else { return name.is_empty() };
            match part {
                Part::Text(t) => name.strip_prefix(t.as_str()).is_some_and(|n| go(rest, n, out)),
                Part::One | Part::Any => {
                    for (i, c) in name.char_indices() {
                        if c == '.' && *part == Part::One {
                            return false;
                        }
                        let end = i + c.len_utf8();
                        out.push(name[..end].to_string());
                        if go(rest, &name[end..], out) {
                            return true;
                        }
                        out.pop();
                    }
                    false
                }
            }
        }
        let mut out = Vec::new();
        go(&self.0, name, &mut out).then_some(out)
    }

    /// The name in which `captures` stand for the wildcards, in order.
    pub fn fill(&self, captures: &[String]) -> String {
        let mut captures = captures.iter();
        let mut text = |p: &Part| match p {
            Part::Text(t) => t.clone(),
            Part::One | Part::Any => captures.next().cloned().unwrap_or_default(),
        };
        self.0.iter().map(&mut text).collect()
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for p in &self.0 {
            f.write_str(match p {
                Part::Text(t) => t,
                Part::One => "*",
                Part::Any => "**",
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_and_fills() {
        let p = |t: &str| Pattern::new(t).unwrap();
        let c = |t: &str, n: &str| p(t).captures(n).map(|c| c.join("|"));
        assert_eq!(c("encoder.layer.*.query.weight", "encoder.layer.11.query.weight").as_deref(), Some("11"));
        assert_eq!(c("encoder.layer.*.query.weight", "encoder.layer.1.1.query.weight"), None);
        assert_eq!(c("encoder.*.x", "encoder..x"), None);
        assert_eq!(c("bert.**", "bert.a.b").as_deref(), Some("a.b"));
        assert_eq!(c("**.num", "a.b.num").as_deref(), Some("a.b"));
        assert_eq!(c("layer*.*.conv*.weight", "layer1.0.conv2.weight").as_deref(), Some("1|0|2"));
        assert_eq!(c("a", "a").as_deref(), Some(""));
        assert_eq!(c("a", "ab"), None);
        assert_eq!(p("blocks.*.mlp.**").fill(&["3".into(), "fc1.bias".into()]), "blocks.3.mlp.fc1.bias");
        assert_eq!(p("blocks.*.mlp.**").to_string(), "blocks.*.mlp.**");
        assert_eq!(Pattern::expand_braces("a.{q, k,v}.w"), ["a.q.w", "a.k.w", "a.v.w"]);
        assert!(Pattern::new("").is_err() && Pattern::new("a***").is_err());
    }
}
