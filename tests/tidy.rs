//! What the compiler does not check: who may use whom, where a library lives, sizes, licences, and that the documents
//! speak of what is there. The tables stand in `docs/ARCHITECTURE.md`, where people read them.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test that wanted it")]

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/licences.rs"]
mod licences;
#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/sizes.rs"]
mod sizes;
#[path = "tidy/sources.rs"]
mod sources;

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file of the repository with one of these endings, as paths from its root.
fn files(endings: &[&str]) -> Vec<String> {
    const NOT_OURS: [&str; 6] = ["target", "node_modules", ".git", "data", ".test", "out"];
    fn walk(directory: &Path, endings: &[&str], found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                if !NOT_OURS.contains(&name.as_str()) {
                    walk(&path, endings, found);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), endings, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no file ends with {endings:?}");
    found
}

/// What `cargo` prints. It reads what is there and downloads nothing.
fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo).args(arguments).args(["--offline", "--locked"]).current_dir(root()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The rows of the Markdown table between `<!-- name -->` and `<!-- /name -->`, as cells.
fn table(document: &str, name: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let between = text
        .split_once(&format!("<!-- {name} -->"))
        .and_then(|(_, after)| after.split_once(&format!("<!-- /{name} -->")));
    let Some((section, _)) = between else { panic!("{document} has no section <!-- {name} -->") };
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let rows: Vec<Vec<String>> =
        rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect();
    assert!(!rows.is_empty(), "the table <!-- {name} --> of {document} is empty");
    rows
}

/// The words in `backticks` of a cell.
fn ticked(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Fails with all the findings at once.
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}
