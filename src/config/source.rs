use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::problem::{Problem, quoted};
use super::variables::VARIABLES;

/// The environment as written. Variables that are empty count as not set.
#[derive(Debug, Default, Clone)]
pub struct Source {
    values: BTreeMap<String, (String, Origin)>,
    problems: Vec<Problem>,
}

/// Where a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Default,
    DotEnv,
    Environment,
}

impl Source {
    /// The process's environment and, unless that says `ENVIRONMENT=production`, the file `.env` of the working
    /// directory beneath it.
    pub fn of_process() -> Self {
        Self::layered(std::env::vars_os(), Path::new(".env"))
    }

    /// `environment` wins over the file.
    pub(super) fn layered(environment: impl Iterator<Item = (OsString, OsString)>, dot_env: &Path) -> Self {
        let mut source = Self::default();
        for (name, value) in environment {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => source.set(name, value, Origin::Environment),
                Err(_) if concerns_us(&name) => {
                    source.problems.push(Problem { variable: name, given: None, why: "is not UTF-8".into() });
                }
                Err(_) => {}
            }
        }
        if source.get("ENVIRONMENT") != Some("production") {
            source.read_dot_env(dot_env);
        }
        source
    }

    fn read_dot_env(&mut self, path: &Path) {
        let lines = match dotenvy::from_path_iter(path) {
            Ok(lines) => lines,
            Err(error) if error.not_found() => return,
            Err(error) => {
                let why = format!("cannot be read: {error}");
                self.problems.push(Problem { variable: path.display().to_string(), given: None, why });
                return;
            }
        };
        for line in lines {
            match line {
                Ok((name, value)) if !self.values.contains_key(&name) => self.set(name, value, Origin::DotEnv),
                Ok(_) => {}
                Err(error) => {
                    // The line itself may hold a secret, so only what stands before its `=` is told.
                    let why = match &error {
                        dotenvy::Error::LineParse(line, _) => {
                            let name: &str = line.split('=').next().unwrap_or_default();
                            format!("has a line that cannot be read, it begins with {}", quoted(name.trim()))
                        }
                        dotenvy::Error::Io(_) | dotenvy::Error::EnvVar(_) | _ => {
                            "has a line that cannot be read".into()
                        }
                    };
                    self.problems.push(Problem { variable: path.display().to_string(), given: None, why });
                }
            }
        }
    }

    fn set(&mut self, name: String, value: String, origin: Origin) {
        if !value.is_empty() {
            self.values.insert(name, (value, origin));
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(value, _)| value.as_str())
    }

    pub(super) fn origin(&self, name: &str) -> Origin {
        self.values.get(name).map_or(Origin::Default, |(_, origin)| *origin)
    }

    /// What could not even be taken in.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Names in our own space that nothing reads.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str).filter(|name| name.starts_with("VEZA_") && !concerns_us_exactly(name))
    }
}

/// As if it were the environment.
impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Source {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut source = Self::default();
        for (name, value) in pairs {
            source.set(name.into(), value.into(), Origin::Environment);
        }
        source
    }
}

impl<K: Into<String>, V: Into<String>, const N: usize> From<[(K, V); N]> for Source {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

fn concerns_us(name: &str) -> bool {
    name.starts_with("VEZA_") || concerns_us_exactly(name)
}

fn concerns_us_exactly(name: &str) -> bool {
    VARIABLES.iter().any(|variable| variable.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn environment(pairs: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".env");
        std::fs::write(&file, "PORT=1\nWS_PORT=2\n# a comment\nSERVICE_NAME='quoted'\n").unwrap();
        let source = Source::layered(environment(&[("PORT", "9"), ("WS_PORT", "")]), &file);
        assert_eq!((source.get("PORT"), source.origin("PORT")), (Some("9"), Origin::Environment));
        assert_eq!((source.get("WS_PORT"), source.origin("WS_PORT")), (Some("2"), Origin::DotEnv));
        assert_eq!(source.get("SERVICE_NAME"), Some("quoted"));
        assert_eq!(source.origin("HOST"), Origin::Default);
        assert_eq!(source.problems(), []);
    }

    #[test]
    fn production_does_not_read_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".env");
        std::fs::write(&file, "PORT=1\n").unwrap();
        let source = Source::layered(environment(&[("ENVIRONMENT", "production")]), &file);
        assert_eq!(source.get("PORT"), None);
    }

    #[test]
    fn a_broken_line_is_told_without_its_value() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".env");
        std::fs::write(&file, "AUTH_HS256_SECRET='hunter2\n").unwrap();
        let source = Source::layered(environment(&[]), &file);
        let [problem] = source.problems() else { panic!("{:?}", source.problems()) };
        assert!(problem.why.contains("AUTH_HS256_SECRET"), "{problem}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }

    #[test]
    fn bytes_that_are_no_text_are_told_only_for_our_variables() {
        let broken = || OsString::from_vec(vec![0xff]);
        let given = [("PORT".into(), broken()), ("OTHER".into(), broken())];
        let source = Source::layered(given.into_iter(), Path::new("/nonexistent/.env"));
        assert_eq!(source.problems().len(), 1);
        assert_eq!(source.problems()[0].variable, "PORT");
    }
}
