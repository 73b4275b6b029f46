//! The licences and bans of `deny.toml`, checked with what cargo knows: on every machine, without cargo-deny.

use std::collections::BTreeSet;

use super::{cargo, none, read};

/// The strings of a list in `deny.toml`: `key = [ … ]`.
fn list(key: &str) -> Vec<String> {
    let text = read("deny.toml");
    let text: String = text.lines().map(|line| line.split('#').next().unwrap()).collect::<Vec<_>>().join("\n");
    let (_, after) = text.split_once(&format!("\n{key} = [")).unwrap_or_else(|| panic!("deny.toml has no {key}"));
    let found: Vec<String> = after.split(']').next().unwrap().split('"').skip(1).step_by(2).map(String::from).collect();
    assert!(!found.is_empty(), "{key} in deny.toml is empty");
    found
}

/// Every crate that is built for Linux, as (name and version, licence).
fn crates() -> BTreeSet<(String, String)> {
    let tree = ["tree", "--workspace", "--edges", "all", "--prefix", "none", "--format", "{p}|{l}"];
    let targets = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
    let mut crates = BTreeSet::new();
    for target in targets {
        for line in cargo(&[&tree[..], &["--target", target]].concat()).lines().filter(|line| line.contains('|')) {
            let (package, licence) = line.trim_end_matches(" (*)").split_once('|').unwrap();
            let name = package.split(' ').take(2).collect::<Vec<_>>().join(" ");
            crates.insert((name, licence.to_owned()));
        }
    }
    assert!(crates.len() > 100, "the tree of dependencies was not read");
    crates
}

/// Whether an SPDX expression can be met with what is allowed. The older `/` means OR.
fn met(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any(&words, &mut at, allowed) && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at, allowed);
    }
    met
}

fn all(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = any(words, at, allowed);
        *at += 1;
        return met;
    }
    let mut licence = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        licence = format!("{licence} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&licence)
}

#[test]
fn licences_are_on_the_list() {
    let allowed = list("allow");
    let findings: Vec<String> = crates()
        .into_iter()
        .filter(|(_, licence)| !met(licence, &allowed))
        .map(|(name, licence)| format!("{name}: {licence:?} is not met by the list in deny.toml"))
        .collect();
    none(&findings);
}

#[test]
fn banned_crates_are_not_in_the_tree() {
    let banned = list("deny");
    let findings: Vec<String> = crates()
        .into_iter()
        .filter(|(package, _)| banned.iter().any(|name| package.split(' ').next() == Some(name)))
        .map(|(package, _)| format!("{package} is banned in deny.toml"))
        .collect();
    none(&findings);
}

#[test]
fn lock_files_name_the_public_registry_or_no_host_at_all() {
    let mut findings = Vec::new();
    for line in read("Cargo.lock").lines().filter(|line| line.starts_with("source = ")) {
        if line != "source = \"registry+https://github.com/rust-lang/crates.io-index\"" {
            findings.push(format!("Cargo.lock: {line}"));
        }
    }
    for line in read("clients/web/package-lock.json").lines().filter(|line| line.contains("\"resolved\"")) {
        findings.push(format!("clients/web/package-lock.json: {}", line.trim()));
    }
    none(&findings);
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(String::from);
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "GPL-3.0/MIT",
        "MIT AND ISC",
        "ISC AND (GPL-3.0 OR MIT)",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(met(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "(GPL-3.0 OR X) AND MIT", "MIT ISC"] {
        assert!(!met(bad, &allowed), "{bad}");
    }
}
