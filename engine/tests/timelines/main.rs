//! Stories of the state machines, as text one can read: who says what at which millisecond, and what comes of it.
//!
//! A file under `session/` or `room/` holds lines `<ms> <what happens>`; the indented lines under each are what the machine
//! does. A test runs the story and compares every word. `UPDATE_TIMELINES=1` writes what came out, to be read and committed.

#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a story that cannot be read fails its test")]

mod room;
mod session;

use std::fmt::Write;
use std::path::Path;

/// One story's machine.
trait Stage {
    /// Does what a line says at that moment.
    fn act(&mut self, ms: u64, words: &[&str]);
    /// Everything that came of it, a line each.
    fn outcome(&mut self) -> Vec<String>;
}

/// Runs every story of a folder.
fn check<S: Stage>(folder: &str, open: impl Fn() -> S) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/timelines").join(folder);
    let mut stories: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    stories.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    stories.sort();
    assert!(!stories.is_empty());
    for path in stories {
        let expected = std::fs::read_to_string(&path).unwrap();
        let played = play(&expected, &mut open());
        if std::env::var_os("UPDATE_TIMELINES").is_some() {
            std::fs::write(&path, &played).unwrap();
        } else if played != expected {
            let differs = played.lines().zip(expected.lines()).position(|(played, expected)| played != expected);
            panic!("{} differs from line {:?} on; it plays:\n{played}", path.display(), differs.map(|line| line + 1));
        }
    }
}

fn play(story: &str, stage: &mut impl Stage) -> String {
    let mut played = String::new();
    for line in story.lines().filter(|line| !line.starts_with("        ")) {
        writeln!(played, "{line}").unwrap();
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let ms = words.remove(0).parse().unwrap_or_else(|_| panic!("no time in {line:?}"));
        stage.act(ms, &words);
        for outcome in stage.outcome() {
            writeln!(played, "        {outcome}").unwrap();
        }
    }
    played
}

/// The value of `name=value` among the words.
fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn number(words: &[&str], name: &str) -> Option<u64> {
    value(words, name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}
