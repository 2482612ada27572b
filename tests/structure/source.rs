//! One Rust file as text: its modules, its `use` lines and its paths. No full parser: tokens are enough.

/// A piece of code. Comments are gone; of a string or a number only a mark remains.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// `::`
    Colons,
    Mark(char),
}

/// A `use` of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    /// What it takes, from its first segment: `crate`, `super`, `self`, a module or another crate.
    pub path: Vec<String>,
    /// The name in this module; `None` for a glob.
    pub name: Option<String>,
    /// Whether it is `pub use`, of any visibility.
    pub exported: bool,
}

/// What one module says; modules written inside a file stand beside it.
#[derive(Debug, Default)]
pub struct Module {
    /// Its names below the file: empty for the file itself.
    pub inside: Vec<String>,
    /// Its modules, and whether each is a file of its own (`mod x;`).
    pub children: Vec<(String, bool)>,
    pub uses: Vec<Use>,
    /// Paths of two segments and more, outside of `use` lines.
    pub paths: Vec<Vec<String>>,
    /// All words outside of `use` lines.
    pub words: Vec<String>,
    /// Names that it defines.
    pub items: Vec<String>,
    /// Names of its macros with `#[macro_export]`.
    pub macros: Vec<String>,
}

/// The modules of a file, the file itself first, without the code under `#[cfg(test)]`.
pub fn modules(text: &str) -> Vec<Module> {
    let tokens = without_tests(tokens(text));
    let mut modules = vec![Module::default()];
    // The module that each open brace of a `mod x {` returns to, with its depth.
    let mut above: Vec<(usize, usize)> = Vec::new();
    let (mut here, mut depth, mut i) = (0, 0, 0);
    let mut exported_macro = false;
    while i < tokens.len() {
        let word = |k: usize| match tokens.get(k) {
            Some(Token::Word(w)) => Some(w.as_str()),
            _ => None,
        };
        match &tokens[i] {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => {
                depth -= 1;
                if above.last().is_some_and(|&(_, d)| d == depth) {
                    here = above.pop().map_or(0, |(m, _)| m);
                }
            }
            Token::Word(w) if w == "use" => {
                // `pub use` and `pub(crate) use`
                let exported = i > 0 && (word(i - 1) == Some("pub") || tokens[i - 1] == Token::Mark(')'));
                i = use_tree(&tokens, i + 1, Vec::new(), exported, &mut modules[here].uses);
                continue;
            }
            Token::Word(w) if w == "mod" && word(i + 1).is_some() => {
                let name = word(i + 1).unwrap_or_default().to_string();
                let file = tokens.get(i + 2) == Some(&Token::Mark(';'));
                modules[here].children.push((name.clone(), file));
                if !file {
                    let inside = modules[here].inside.iter().cloned().chain([name]).collect();
                    above.push((here, depth));
                    modules.push(Module { inside, ..Module::default() });
                    here = modules.len() - 1;
                    depth += 1;
                }
                i += 3;
                continue;
            }
            Token::Word(w) => {
                let module = &mut modules[here];
                exported_macro |= w == "macro_export";
                if w == "macro_rules" {
                    let name = word(i + 2).unwrap_or_default().to_string();
                    if std::mem::take(&mut exported_macro) {
                        module.macros.push(name);
                    }
                }
                const ITEMS: [&str; 8] =
                    ["fn", "struct", "enum", "trait", "const", "static", "type", "union"];
                if ITEMS.contains(&w.as_str())
                    && let Some(name) = word(i + 1)
                {
                    module.items.push(name.to_string());
                }
                let mut path = vec![w.clone()];
                let mut end = i + 1;
                while tokens.get(end) == Some(&Token::Colons)
                    && let Some(next) = word(end + 1)
                {
                    path.push(next.to_string());
                    end += 2;
                }
                // `::x` and `<T as X>::x` begin elsewhere.
                if i == 0 || tokens[i - 1] != Token::Colons {
                    // Fields and methods are other names.
                    if i == 0 || tokens[i - 1] != Token::Mark('.') {
                        module.words.extend(path.first().cloned());
                    }
                    if path.len() > 1 {
                        module.paths.push(path);
                    }
                }
                i = end;
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    modules
}

/// Reads a tree of `use` from `tokens[i]` on and answers the place behind it.
fn use_tree(tokens: &[Token], mut i: usize, stem: Vec<String>, exported: bool, out: &mut Vec<Use>) -> usize {
    let mut path = stem.clone();
    let mut name = None;
    // `use ::x` names another crate, and `{..}` has said its names itself.
    let mut said = tokens.get(i) == Some(&Token::Colons);
    while let Some(token) = tokens.get(i) {
        match token {
            Token::Word(w) if w == "as" => {
                if let Some(Token::Word(alias)) = tokens.get(i + 1) {
                    name = Some(alias.clone());
                }
                i += 1;
            }
            // `a::{self, B}`
            Token::Word(w) if w == "self" && !stem.is_empty() && path == stem => {
                name = path.last().cloned();
            }
            Token::Word(w) => {
                path.push(w.clone());
                name = Some(w.clone());
            }
            Token::Mark('*') => name = None,
            Token::Mark('{') => {
                said = true;
                while tokens.get(i) != Some(&Token::Mark('}')) && i < tokens.len() {
                    i = use_tree(tokens, i + 1, path.clone(), exported, out);
                }
            }
            Token::Colons => {}
            _ => break,
        }
        i += 1;
    }
    if !said && path.len() > usize::from(!stem.is_empty()) {
        out.push(Use { path, name, exported });
    }
    i
}

/// Leaves out each item under `#[cfg(test)]`, and all of a file under `#![cfg(test)]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut i = 0;
    while i < tokens.len() {
        let inner = tokens.get(i + 1) == Some(&Token::Mark('!'));
        let open = i + 1 + usize::from(inner);
        if tokens[i] != Token::Mark('#') || tokens.get(open) != Some(&Token::Mark('[')) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        let end = group(&tokens, open);
        let has = |word: &str| tokens[open..end].iter().any(|t| matches!(t, Token::Word(w) if w == word));
        let test = tokens.get(open + 1) == Some(&Token::Word("cfg".into())) && has("test") && !has("not");
        if test && inner {
            return Vec::new();
        }
        if test {
            i = behind_item(&tokens, end);
        } else {
            kept.extend_from_slice(&tokens[i..end]);
            i = end;
        }
    }
    kept
}

/// The place behind the item that starts at `tokens[i]`, with its further attributes.
fn behind_item(tokens: &[Token], mut i: usize) -> usize {
    while tokens.get(i) == Some(&Token::Mark('#')) {
        i = group(tokens, i + 1);
    }
    let mut in_use = false;
    while i < tokens.len() {
        match &tokens[i] {
            Token::Mark(';') => return i + 1,
            Token::Mark('{') if !in_use => return group(tokens, i),
            Token::Mark('{' | '(' | '[') => i = group(tokens, i),
            Token::Word(w) => {
                in_use |= w == "use";
                i += 1;
            }
            _ => i += 1,
        }
    }
    i
}

/// The place behind the bracket that closes the one at `tokens[i]`.
fn group(tokens: &[Token], mut i: usize) -> usize {
    let mut depth = 0;
    while i < tokens.len() {
        match tokens[i] {
            Token::Mark('{' | '(' | '[') => depth += 1,
            Token::Mark('}' | ')' | ']') => depth -= 1,
            _ => {}
        }
        i += 1;
        if depth == 0 {
            break;
        }
    }
    i
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            // Comments nest.
            let mut depth = 0;
            while i < chars.len() {
                match (at(i), at(i + 1)) {
                    ('/', '*') => depth += 1,
                    ('*', '/') => depth -= 1,
                    _ => {
                        i += 1;
                        continue;
                    }
                }
                i += 2;
                if depth == 0 {
                    break;
                }
            }
        } else if c == '"' {
            i += 1;
            while i < chars.len() && chars[i] != '"' {
                i += 1 + usize::from(chars[i] == '\\');
            }
            i += 1;
            tokens.push(Token::Mark('"'));
        } else if c == '\'' {
            // 'a' and '\n' are characters, 'a without an end is a lifetime.
            if at(i + 1) == '\\' {
                i += 3;
                while i < chars.len() && chars[i] != '\'' {
                    i += 1;
                }
                i += 1;
            } else if at(i + 2) == '\'' {
                i += 3;
            } else {
                i += 1;
                while of_word(at(i)) {
                    i += 1;
                }
            }
            tokens.push(Token::Mark('\''));
        } else if c.is_ascii_digit() {
            while of_word(at(i)) {
                i += 1;
            }
            tokens.push(Token::Mark('0'));
        } else if of_word(c) {
            let start = i;
            while of_word(at(i)) {
                i += 1;
            }
            let word: String = chars[start..i].iter().collect();
            // r"..", br#".."#: up to the quote with as many hashes.
            let mut hashes = 0;
            while at(i + hashes) == '#' {
                hashes += 1;
            }
            if matches!(word.as_str(), "r" | "br" | "cr") && at(i + hashes) == '"' {
                i += hashes + 1;
                while i < chars.len() && !(chars[i] == '"' && (1..=hashes).all(|k| at(i + k) == '#')) {
                    i += 1;
                }
                i += hashes + 1;
                tokens.push(Token::Mark('"'));
            } else {
                tokens.push(Token::Word(word));
            }
        } else if c == ':' && at(i + 1) == ':' {
            tokens.push(Token::Colons);
            i += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(Token::Mark(c));
            }
            i += 1;
        }
    }
    tokens
}

#[test]
fn grouped_imports_are_taken_apart() {
    let all = modules("use a::{b, c::{self, D as E}, super_x::*};\npub(crate) use self::f::G;\nuse ::h::I;");
    let said: Vec<(String, Option<&str>, bool)> =
        all[0].uses.iter().map(|u| (u.path.join("::"), u.name.as_deref(), u.exported)).collect();
    assert_eq!(
        said,
        [
            ("a::b".to_string(), Some("b"), false),
            ("a::c".to_string(), Some("c"), false),
            ("a::c::D".to_string(), Some("E"), false),
            ("a::super_x".to_string(), None, false),
            ("self::f::G".to_string(), Some("G"), true),
        ]
    );
}

#[test]
fn comments_strings_and_tests_say_nothing() {
    let text = r##"
        //! use a::A;
        /* use b::B; /* nested */ use c::C; */
        const D: &str = "use d::D; \" e::e()";
        const F: &str = r#"f::f() " g::g()"#;
        fn h<'a>(x: &'a str) -> char { let _ = i::i('"', '\''); 'x' }
        #[cfg(test)]
        use {j::J, k::K};
        #[cfg(all(test, unix))]
        #[allow(dead_code)]
        mod tests { use super::*; fn l() { m::m() } }
        #[cfg(not(test))]
        use n::N;
    "##;
    let all = modules(text);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].paths, [["i", "i"]]);
    assert_eq!(all[0].uses.iter().map(|u| u.path.join("::")).collect::<Vec<_>>(), ["n::N"]);
    assert!(modules("#![cfg(test)]\nuse a::A;")[0].uses.is_empty());
}

#[test]
fn modules_inside_a_file_stand_apart() {
    let all = modules("mod a; pub mod b { use super::C; fn d() { super::e::f() } } struct G;");
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].children, [("a".to_string(), true), ("b".to_string(), false)]);
    assert_eq!(
        (all[0].items.as_slice(), all[1].items.as_slice()),
        (&["G".to_string()][..], &["d".into()][..])
    );
    assert_eq!(all[1].inside, ["b"]);
    assert_eq!(all[1].paths, [["super", "e", "f"]]);
}
