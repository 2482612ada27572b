//! Names of models and of their files.

use crate::error::{Error, Result};

/// `org/name@revision`, checked: it becomes part of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) id: String,
    pub(super) revision: String,
}

impl Model {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let ok = |part: &str| {
            !part.is_empty()
                && !part.chars().all(|c| c == '.')
                && !part.contains("..")
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if id.split('/').count() > 2 || !id.split('/').all(ok) {
            return Err(Error::config(format!(
                "`{text}` is not a model of the Hub; expected org/name or org/name@revision"
            )));
        }
        if !revision.split('/').all(ok) {
            return Err(Error::config(format!("`{text}`: `{revision}` is not a branch, tag or commit")));
        }
        Ok(Model { id: id.to_string(), revision: revision.to_string() })
    }

    pub(super) fn is_commit(&self) -> bool {
        self.revision.len() == 40 && self.revision.chars().all(|c| c.is_ascii_hexdigit())
    }

    pub(super) fn folder(&self) -> String {
        format!("models--{}", self.id.replace('/', "--"))
    }

    pub(super) fn error(&self, problem: impl std::fmt::Display) -> Error {
        let at = if self.revision == "main" { String::new() } else { format!("@{}", self.revision) };
        Error::input(format!("{}{at}", self.id), problem)
    }
}

/// A file, pattern or alternatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted(Vec<String>);

impl Wanted {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let all: Vec<String> = text.split('|').map(|s| s.trim().to_string()).collect();
        for p in &all {
            let inside =
                !p.is_empty() && p.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
            if !inside || p.contains(['\\', '[', ']', '{', '}']) {
                return Err(Error::config(format!(
                    "`{text}`: expected names of files in a model, with `*` and `?` as wildcards"
                )));
            }
        }
        Ok(Wanted(all))
    }

    /// The files of the first alternative that has any.
    pub(super) fn choose<'a>(&self, files: &'a [String]) -> Vec<&'a String> {
        let of = |p: &String| files.iter().filter(|f| glob(p.as_bytes(), f.as_bytes())).collect::<Vec<_>>();
        self.0.iter().map(of).find(|m| !m.is_empty()).unwrap_or_default()
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(" or "))
    }
}

/// `*` for any bytes, `?` for one; linear in time but for going back to the last `*`.
pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|&c| c == b'?' || c == text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((sp, st)) = star {
            star = Some((sp, st + 1));
            (p, t) = (sp + 1, st + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}
