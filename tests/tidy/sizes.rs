//! A file is about one noun. Growth is what is caught: past the limit a file needs a mark here, and a mark only shrinks.

use super::{files, none, read};

/// Past this there are usually two nouns inside.
const LINES_MAX: usize = 600;

/// Files over the limit, with the lines they had. Lower a mark when its file has shrunk.
const MARKS: &[(&str, usize)] = &[];

/// Written by programs.
const GENERATED: [&str; 3] = ["clients/web/src/gen/", "clients/web/dist/", "clients/go/gen/"];

#[test]
fn files_are_short_or_at_least_do_not_grow() {
    let mut findings = Vec::new();
    let paths = files(&[".rs", ".ts", ".mjs", ".css", ".py", ".sh", ".proto", ".go"]);
    for path in paths.iter().filter(|path| !GENERATED.iter().any(|generated| path.starts_with(generated))) {
        let lines = read(path).lines().count();
        let mark = MARKS.iter().find(|(marked, _)| marked == path).map(|(_, lines)| *lines);
        match mark {
            Some(mark) if lines > mark => findings.push(format!("{path}: {lines} lines, its mark is {mark}: split it")),
            Some(_) if lines <= LINES_MAX => findings.push(format!("{path}: short again, its mark can go")),
            None if lines > LINES_MAX => {
                findings.push(format!("{path}: {lines} lines, {LINES_MAX} are allowed: there are two nouns inside"));
            }
            Some(_) | None => {}
        }
    }
    for (marked, _) in MARKS.iter().filter(|(marked, _)| !paths.iter().any(|path| path == marked)) {
        findings.push(format!("{marked}: marked and not there"));
    }
    none(&findings);
}
