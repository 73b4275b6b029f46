use std::net::IpAddr;
use std::path::PathBuf;

use super::problem::Problem;
use super::source::Source;
use super::variables::{Default, Kind, variable};
use super::{Environment, Shown, check};

/// Takes values of each kind out of a source, and collects what is wrong and what will be shown.
pub(super) struct Reader<'a> {
    pub(super) source: &'a Source,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    pub(super) shown: Vec<Shown>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self { source, problems: source.problems().to_vec(), warnings: Vec::new(), shown: Vec::new() }
    }

    /// The written or the fixed default text, if `check` finds nothing wrong with it.
    pub(super) fn checked(&mut self, name: &'static str, check: impl Fn(&str) -> Result<(), String>) -> Option<String> {
        let text = self.source.get(name).map_or_else(|| fixed_default(name), str::to_owned);
        match check(&text) {
            Ok(()) => {
                self.show(name, text.clone());
                Some(text)
            }
            Err(why) => {
                self.problem(name, Some(&text), why);
                None
            }
        }
    }

    /// An address to bind.
    pub(super) fn address(&mut self, name: &'static str) -> Option<IpAddr> {
        let text = self.checked(name, |text| {
            text.parse::<IpAddr>()
                .map(|_| ())
                .map_err(|_| "allowed: an IP address, not a name; 0.0.0.0 or :: for all".into())
        });
        text?.parse().ok()
    }

    pub(super) fn choice(&mut self, name: &'static str) -> Option<&'static str> {
        let text = self.source.get(name).map_or_else(|| fixed_default(name), str::to_owned);
        let Kind::Choice(words) = variable(name).kind else { unreachable!("{name} is declared as a choice") };
        let word = words.iter().find(|word| **word == text).copied();
        match word {
            Some(word) => self.show(name, word.into()),
            None => self.problems.push(Problem::not_allowed(name, &text)),
        }
        word
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.flag_or(name, fixed_default(name) == "true")
    }

    pub(super) fn flag_or(&mut self, name: &'static str, default: bool) -> Option<bool> {
        let text = self.source.get(name).map_or_else(|| default.to_string(), str::to_owned);
        let value = match text.to_ascii_lowercase().as_str() {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => {
                self.problems.push(Problem::not_allowed(name, &text));
                return None;
            }
        };
        self.show(name, value.to_string());
        Some(value)
    }

    pub(super) fn number<T: TryFrom<u64>>(&mut self, name: &'static str) -> Option<T> {
        let default = fixed_default(name).parse().expect("a number's fixed default is a number");
        self.number_or(name, default)
    }

    pub(super) fn number_or<T: TryFrom<u64>>(&mut self, name: &'static str, default: u64) -> Option<T> {
        let Kind::Number { min, max, .. } = variable(name).kind else { unreachable!("{name} is declared as a number") };
        let value = match self.source.get(name) {
            None => default,
            Some(text) => match text.trim().parse::<u64>() {
                Ok(value) if (min..=max).contains(&value) => value,
                Ok(_) | Err(_) => {
                    self.problems.push(Problem::not_allowed(name, text));
                    return None;
                }
            },
        };
        self.show(name, value.to_string());
        Some(T::try_from(value).ok().expect("the declared maximum fits the field"))
    }

    pub(super) fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        let text = match (self.source.get(name), variable(name).default) {
            (Some(text), _) => text.to_owned(),
            (None, Default::Fixed(text)) => text.into(),
            (None, Default::Described(_)) => {
                self.show(name, "(none)".into());
                return None;
            }
        };
        self.show(name, text.clone());
        Some(text.into())
    }

    /// True too when there is no such file to look at.
    pub(super) fn file_is_readable(&mut self, name: &'static str) -> bool {
        let Some(text) = self.source.get(name) else { return true };
        match check::readable(text.as_ref()) {
            Ok(()) => true,
            Err(why) => {
                self.problem(name, Some(text), why);
                false
            }
        }
    }

    /// As [`Self::file_is_readable`], for what only the server should be able to read.
    pub(super) fn key_is_safe(&mut self, name: &'static str, environment: Option<Environment>) -> bool {
        if !self.file_is_readable(name) {
            return false;
        }
        let Some(text) = self.source.get(name) else { return true };
        if !check::is_world_readable(text.as_ref()).unwrap_or(false) || is_public_key(text) {
            return true;
        }
        if environment == Some(Environment::Production) {
            self.problem(name, Some(text), "everybody may read this key; run `chmod o-r` on it");
            return false;
        }
        self.warnings
            .push(format!("{name}: everybody may read this key, which production refuses; run `chmod o-r` on it"));
        true
    }

    pub(super) fn problem(&mut self, name: &'static str, given: Option<&str>, why: impl Into<String>) {
        self.problems.push(Problem::new(name, given, why));
    }

    pub(super) fn show(&mut self, name: &'static str, value: String) {
        self.shown.push(Shown { variable: variable(name), value, origin: self.source.origin(name) });
    }
}

fn fixed_default(name: &str) -> String {
    match variable(name).default {
        Default::Fixed(text) => text.into(),
        Default::Described(_) => unreachable!("{name} has no fixed default"),
    }
}

/// A public key is no secret, whatever its file's mode.
fn is_public_key(path: &str) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.trim_ascii_start().starts_with(b"-----BEGIN PUBLIC KEY-----"))
}
