//! `veza chat` as it is used in a pipe.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::server::{Process, Start};

/// What the terminal shows when these lines are typed.
fn chat(process: &Process, user: &str, lines: &[&str]) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_veza"))
        .args(["chat", "--url", &process.url(), "--room", "porch", "--user", user, "--transport", "quic"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_typed_is_said_changed_and_found_again() {
    let process = Start::new().run();
    chat(&process, "alice", &["helo", "the second", "/edit 1 hello", "/react 2 👍", "/pin 1", "/thread 2 an answer"]);
    // Somebody else enters later and sees what has become of it.
    let shown = chat(&process, "bob", &["/thread 2", "/search hello", "/pins", "/edits 1", "/unread"]);
    for line in [
        "#1 alice: hello (edited) (pinned)",
        "#2 alice: the second [👍 1] [1 in /thread 2]",
        "#6 alice: [thread #2] an answer",
        "1. helo",
        "2. hello",
        "-- everything is read",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    assert_eq!(shown.matches("#1 alice: hello").count(), 3, "on entry, found, and pinned:\n{shown}");
}

#[test]
fn what_is_refused_is_said_plainly() {
    let process = Start::new().run();
    chat(&process, "alice", &["mine", "/mute bob"]);
    let shown = chat(&process, "bob", &["/edit 1 yours", "/delete 99", "/role alice guest", "/edit nothing", "/fly"]);
    for line in [
        "!! you may edit only your own messages (PERMISSION_DENIED)",
        "!! no such message (NOT_FOUND)",
        "(PERMISSION_DENIED)",
        "-- /edit N TEXT",
        "-- no such command: fly",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
}
