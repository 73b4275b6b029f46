//! The Rust files of the workspace, by the `mod` declarations that reach them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{cargo, files, none, root};

/// A file that a crate's root reaches.
pub(super) struct Source {
    /// From the repository's root.
    pub(super) path: String,
    /// Comments and the contents of strings blanked, tests at its end cut off.
    pub(super) code: String,
    /// Compiled for tests only.
    pub(super) test: bool,
}

/// Every file that is compiled, from the roots that cargo knows.
pub(super) fn all() -> Vec<Source> {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])).unwrap();
    let mut found = BTreeMap::new();
    for target in
        metadata["packages"].as_array().unwrap().iter().flat_map(|package| package["targets"].as_array().unwrap())
    {
        let path = PathBuf::from(target["src_path"].as_str().unwrap());
        let test = target["kind"].as_array().unwrap().iter().any(|kind| kind == "test");
        let home = path.parent().unwrap().to_owned();
        reach(&path, &home, test, &mut found);
    }
    found.into_values().collect()
}

fn reach(path: &Path, home: &Path, test: bool, found: &mut BTreeMap<PathBuf, Source>) {
    if found.get(path).is_some_and(|known| !known.test || test) {
        return;
    }
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let blank = blanked(&text);
    let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    found.insert(path.to_owned(), Source { path: relative, code: without_tests(&blank).to_owned(), test });
    let lines: Vec<(&str, &str)> = text.lines().zip(blank.lines()).collect();
    for (at, (_, line)) in lines.iter().enumerate() {
        let Some(name) = declared(line) else { continue };
        let attributes = || lines[..at].iter().rev().take_while(|(_, line)| line.trim_start().starts_with("#["));
        let test = test || attributes().any(|(_, line)| line.contains("cfg(test)"));
        let written = attributes().find_map(|(text, _)| text.split_once("#[path = \"")?.1.split('"').next());
        let file = match written {
            Some(written) => path.parent().unwrap().join(written).canonicalize().unwrap(),
            None => home.join(format!("{name}.rs")),
        };
        let inner = file.with_extension("");
        reach(&file, &inner, test, found);
    }
}

/// `name` of a line `mod name;`, whoever may see it.
fn declared(line: &str) -> Option<&str> {
    let (before, name) = line.trim().strip_suffix(';')?.rsplit_once("mod ")?;
    let visible = before.is_empty() || (before.starts_with("pub") && before.ends_with(' '));
    visible.then_some(name)
}

/// Tests stand at a file's end here.
fn without_tests(code: &str) -> &str {
    let end = code.match_indices("#[cfg(test)]").find(|(at, attribute)| {
        let after = code[at + attribute.len()..].trim_start();
        after.starts_with("mod ")
            && after.split(['{', ';']).next().is_some_and(|head| after[head.len()..].starts_with('{'))
    });
    end.map_or(code, |(at, _)| &code[..at])
}

/// The same lines without comments and without what strings say.
pub(super) fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let (keep, skip) = if rest.starts_with("//") {
            ("", rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            ("", rest.find("*/").map_or(rest.len(), |end| end + 2))
        } else if let Some(length) = raw_string(rest) {
            ("\"\"", length)
        } else if next == '"' {
            ("\"\"", 1 + string_end(&rest[1..]))
        } else if let Some(length) = character(rest) {
            ("' '", length)
        } else {
            (&rest[..next.len_utf8()], next.len_utf8())
        };
        out.push_str(keep);
        let skipped = &rest[..skip];
        if keep != skipped {
            out.extend(skipped.chars().filter(|c| *c == '\n'));
        }
        rest = &rest[skip..];
    }
    out
}

/// To behind the closing quote.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    let end = text.find(|c: char| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 1)
}

fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r')?.chars().take_while(|c| *c == '#').count();
    text[1 + hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let begin = 2 + hashes;
    Some(text[begin..].find(&close).map_or(text.len(), |end| begin + end + close.len()))
}

/// A character literal; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    if let Some(escape) = inner.strip_prefix('\\') {
        return Some(2 + escape.char_indices().skip(1).find(|(_, c)| *c == '\'')?.0 + 1);
    }
    let first = inner.chars().next()?;
    inner[first.len_utf8()..].starts_with('\'').then_some(2 + first.len_utf8())
}

#[test]
fn every_file_is_compiled_and_none_is_called_mod() {
    let reached: Vec<String> = all().into_iter().map(|source| source.path).collect();
    let mut findings = Vec::new();
    for path in files(&[".rs"]) {
        if path.ends_with("/mod.rs") {
            findings.push(format!("{path}: write foo.rs beside foo/"));
        }
        if !reached.contains(&path) {
            findings.push(format!("{path}: no `mod` reaches this file"));
        }
    }
    none(&findings);
}

#[test]
fn no_test_is_ignored_and_nothing_is_left_to_do() {
    let mut findings = Vec::new();
    for path in files(&[".rs"]) {
        let code = blanked(&std::fs::read_to_string(root().join(&path)).unwrap());
        for word in ["#[ignore", "todo!(", "unimplemented!(", "dbg!("] {
            if code.contains(word) {
                findings.push(format!("{path}: {word}"));
            }
        }
    }
    none(&findings);
}

#[test]
fn comments_strings_and_lifetimes_are_told_apart() {
    let code = blanked(
        "let a = \"crate::hub \\\" // x\"; // crate::bus\nfn f<'a>(c: char) { c == '\"' || c == '\\'' } r#\"crate::ops\"#",
    );
    assert_eq!(code, "let a = \"\"; \nfn f<'a>(c: char) { c == ' ' || c == ' ' } \"\"");
    assert!(!code.contains("crate::"));
    assert_eq!(
        without_tests("fn a() {}\n#[cfg(test)]\nmod contract;\nfn b() {}\n#[cfg(test)]\nmod tests { x }"),
        "fn a() {}\n#[cfg(test)]\nmod contract;\nfn b() {}\n"
    );
    assert_eq!(
        (declared("pub(crate) mod one;"), declared("mod two;"), declared("use mod_x;")),
        (Some("one"), Some("two"), None)
    );
}
