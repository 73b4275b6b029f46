//! What is wrong with an environment, told all at once to the person who wrote it.

use std::fmt;

use super::variables::{VARIABLES, variable};

/// Everything that keeps a configuration from being used. Its display is for a terminal and never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// One thing to correct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub variable: String,
    /// What was written there, escaped and shortened; `None` when it was not set or is a secret.
    pub given: Option<String>,
    /// What is wrong or what is allowed.
    pub why: String,
}

impl Problem {
    /// A value that is not what the variable allows.
    pub(super) fn not_allowed(name: &'static str, given: &str) -> Self {
        Self::new(name, Some(given), format!("allowed: {}", variable(name).allowed()))
    }

    /// `given` is dropped here when the variable is a secret.
    pub(super) fn new(name: &'static str, given: Option<&str>, why: impl Into<String>) -> Self {
        let shown = given.map(|text| if variable(name).is_secret() { "(hidden)".into() } else { quoted(text) });
        Self { variable: name.into(), given: shown, why: why.into() }
    }
}

/// A value in quotes, without anything that would act on a terminal, at most 120 characters of it.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 120;
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    format!("{shown:?}")
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => writeln!(f, "the configuration has an error:")?,
            count => writeln!(f, "the configuration has {count} errors:")?,
        }
        for problem in &self.0 {
            writeln!(f, "  {problem}")?;
        }
        write!(f, "`veza config --markdown` documents every variable")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.given {
            Some(given) => write!(f, "{}: given {given}; {}", self.variable, self.why),
            None => write!(f, "{}: {}", self.variable, self.why),
        }
    }
}

impl std::error::Error for Problems {}

/// The declared variable that `name` was probably meant to be.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let close = |known: &&'static str| distance(name, known) <= known.len() / 3;
    VARIABLES.iter().map(|variable| variable.name).filter(close).min_by_key(|known| distance(name, known))
}

/// How many characters must be put in, taken out or exchanged (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_one_typo_away_or_none() {
        assert_eq!(nearest("VEZA_DATADIR"), Some("VEZA_DATA_DIR"));
        assert_eq!(nearest("VEZA_PUBLISH_BRUST"), Some("VEZA_PUBLISH_BURST"));
        assert_eq!(nearest("VEZA_SOMETHING_ELSE_ENTIRELY"), None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn what_was_given_cannot_act_on_a_terminal_and_is_short() {
        assert_eq!(quoted("a\u{1b}[31m\n"), "\"a\\u{1b}[31m\\n\"");
        assert_eq!(quoted(&"x".repeat(120)).chars().count(), 122);
        assert_eq!(quoted(&"x".repeat(121)).chars().count(), 123);
    }
}
