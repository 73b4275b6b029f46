//! The variables as tables: effective values for a terminal, documentation for the README.

use std::fmt::Write;

use super::variables::{Default, Effect, VARIABLES, Variable};
use super::{Origin, Shown};

/// The effective configuration for a terminal, in the order of the declarations.
pub fn table(shown: &[Shown]) -> String {
    let width = shown.iter().map(|row| row.variable.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for variable in VARIABLES {
        for row in shown.iter().filter(|row| row.variable.name == variable.name) {
            let origin = match row.origin {
                Origin::Default => "default",
                Origin::DotEnv => ".env",
                Origin::Environment => "environment",
            };
            let note = match variable.effect {
                Effect::Now => String::new(),
                Effect::Later(what) => format!(", takes effect with {what}"),
            };
            let value = row.value.escape_debug();
            writeln!(text, "{:width$}  {value}  ({origin}{note})", variable.name).expect("a String takes any text");
        }
    }
    text
}

/// The README's table of every variable.
pub fn markdown() -> String {
    let mut text = String::from("| variable | default | allowed | effect |\n|---|---|---|---|\n");
    for variable in VARIABLES {
        let default = match variable.default {
            Default::Fixed(value) => format!("`{value}`"),
            Default::Described(how) => how.into(),
        };
        let allowed = cell(&variable.allowed());
        writeln!(text, "| `{}` | {default} | {allowed} | {} |", variable.name, effect(variable))
            .expect("a String takes any text");
    }
    text
}

fn effect(variable: &Variable) -> String {
    match variable.effect {
        Effect::Now => variable.help.into(),
        Effect::Later(what) => format!("{} *Takes effect with {what}.*", variable.help),
    }
}

/// Keeps angle and square brackets from being read as tags and links.
fn cell(text: &str) -> String {
    text.replace('<', "\\<").replace('[', "\\[")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Rewrite the section with `veza config --markdown` when this fails.
    #[test]
    fn the_documented_table_is_the_declared_one() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let section = ["README.md", "docs/configuration-table.md"]
            .iter()
            .filter_map(|name| std::fs::read_to_string(root.join(name)).ok())
            .find_map(|text| {
                let (_, after) = text.split_once("<!-- configuration -->")?;
                Some(after.split_once("<!-- /configuration -->")?.0.trim().to_owned())
            })
            .expect("README.md has a section between <!-- configuration --> and <!-- /configuration -->");
        assert_eq!(section, markdown().trim(), "make it with: veza config --markdown");
    }

    #[test]
    fn every_variable_is_shown_with_its_effective_value() {
        let source = [("PORT", "9000"), ("REDIS_URL", "redis://:hunter2@redis/0"), ("GRPC_PORT", "1")].into();
        let text = table(&Config::read(&source).unwrap().shown);
        for variable in VARIABLES {
            let rows = text.lines().filter(|line| line.starts_with(&format!("{} ", variable.name))).count();
            assert_eq!(rows, 1, "{}\n{text}", variable.name);
        }
        assert!(text.contains("9000  (environment)"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("WEBTRANSPORT_PORT") && line.contains("9000  (default)")));
        assert!(text.contains("redis://***@redis/0  (environment, takes effect with clusters)"), "{text}");
        assert!(!text.contains("hunter2"));
    }
}
