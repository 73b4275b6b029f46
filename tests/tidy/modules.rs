//! The arrows of `docs/ARCHITECTURE.md`: between the modules of `src/`, and from a library to its one home.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::{self, Source};
use super::{none, read, table, ticked};

/// What any module of `src/` may use.
const FOR_ALL: [&str; 3] = ["telemetry", "tasks", "clock"];

/// The sources of the server that are part of it.
fn server() -> Vec<Source> {
    sources::all().into_iter().filter(|source| source.path.starts_with("src/") && !source.test).collect()
}

/// `src/hub/worker.rs` belongs to `hub`.
fn module_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap();
    inside.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The modules of `src/` that a file names, by `crate::` or by as many `super::` as lead to the root.
fn named_modules(source: &Source, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let depth = source.path.matches('/').count();
    let to_root = "super::".repeat(depth);
    let mut named = BTreeSet::new();
    for prefix in ["crate::", to_root.as_str()] {
        for (at, _) in source.code.match_indices(prefix) {
            let deeper = source.code[..at].ends_with("super::");
            if prefix != "crate::" && deeper {
                continue;
            }
            named.extend(heads(&source.code[at + prefix.len()..]));
        }
    }
    named.retain(|name| modules.contains(name));
    named
}

/// The first names of a path or of a `{group}` of paths.
fn heads(path: &str) -> Vec<String> {
    let identifier =
        |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![identifier(path)] };
    let (mut heads, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth == 0 => {
                heads.push(identifier(&group[begin..at]));
                begin = at + 1;
            }
            '}' => {
                heads.push(identifier(&group[begin..at]));
                break;
            }
            _ => {}
        }
    }
    heads
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let rows = table("docs/ARCHITECTURE.md", "modules");
    let allowed: BTreeMap<String, Vec<String>> =
        rows.iter().flat_map(|row| ticked(&row[0]).into_iter().map(|name| (name, ticked(&row[2])))).collect();
    let sources = server();
    let modules: BTreeSet<String> = sources.iter().map(|source| module_of(&source.path).to_owned()).collect();
    let mut findings = Vec::new();
    for module in &modules {
        if !["main", "lib"].contains(&module.as_str()) && !allowed.contains_key(module) {
            findings.push(format!("src/{module} has no row in the table of modules in docs/ARCHITECTURE.md"));
        }
    }
    for module in allowed.keys().filter(|module| !modules.contains(*module)) {
        findings
            .push(format!("the table of modules in docs/ARCHITECTURE.md names `{module}`, which src/ does not have"));
    }
    for source in &sources {
        let module = module_of(&source.path);
        let Some(allowed) = allowed.get(module) else { continue };
        if allowed.iter().any(|name| name == "everything") {
            continue;
        }
        for used in named_modules(source, &modules) {
            if used != module && !FOR_ALL.contains(&used.as_str()) && !allowed.contains(&used) {
                findings.push(format!("{}: `{module}` may not use `{used}` (docs/ARCHITECTURE.md)", source.path));
            }
        }
    }
    none(&findings);
}

/// Whether the code names the crate: at a path's beginning, or in a `use`.
fn names_crate(code: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let whole = !before.ends_with(word) && !after.starts_with(word);
        let inner = before.strip_suffix("::").is_some_and(|path| path.ends_with(word));
        let imported = before.ends_with("use ") || before.ends_with("use ::");
        whole && !inner && (after.starts_with("::") || imported)
    })
}

#[test]
fn every_library_has_a_home() {
    let rows = table("docs/ARCHITECTURE.md", "libraries");
    let sources = server();
    let mut placed = BTreeSet::new();
    let mut findings = Vec::new();
    for row in &rows {
        let homes = ticked(&row[1]);
        for library in ticked(&row[0]) {
            let at_home = |path: &str| {
                let inside = path.strip_prefix("src/").unwrap();
                homes.iter().any(|home| inside == format!("{home}.rs") || inside.starts_with(&format!("{home}/")))
            };
            let name = library.replace('-', "_");
            for source in sources.iter().filter(|source| !homes.is_empty() && !at_home(&source.path)) {
                if names_crate(&source.code, &name) {
                    findings.push(format!("{}: `{library}` lives in {homes:?} (docs/ARCHITECTURE.md)", source.path));
                }
            }
            if !placed.insert(library.clone()) {
                findings.push(format!("`{library}` stands twice in the table of libraries"));
            }
        }
    }
    let manifest = read("Cargo.toml");
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap().lines();
    for name in dependencies.filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|name| !name.is_empty()) {
        if !placed.contains(name) {
            findings.push(format!(
                "`{name}` is a dependency without a home in the table of libraries in docs/ARCHITECTURE.md"
            ));
        }
    }
    none(&findings);
}

#[test]
fn names_are_found_where_they_are_names() {
    let modules: BTreeSet<String> = ["hub", "bus", "store"].map(String::from).into();
    let used = |path: &str, code: &str| {
        let source = Source { path: path.into(), code: code.into(), test: false };
        named_modules(&source, &modules).into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(used("src/auth.rs", "use crate::hub::Hub; use crate::{bus, store::{self, X}, tasks};"), "bus hub store");
    assert_eq!(used("src/auth.rs", "use super::hub::Hub;"), "hub");
    assert_eq!(used("src/auth/keys.rs", "use super::hub::Hub; use super::super::bus;"), "bus");
    assert_eq!(used("src/auth.rs", "use crate::hubbub;"), "");
    assert!(names_crate("use quinn::Endpoint;", "quinn") && names_crate("::metrics::counter!", "metrics"));
    assert!(!names_crate("use wtransport::quinn::X;", "quinn") && !names_crate("h3_quinn::X", "quinn"));
}
