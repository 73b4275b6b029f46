//! Chromium on the page the server serves, played by the scripts of `clients/web/e2e`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::server::{Process, Start};

/// A script ends by itself before this.
const SCRIPT_MAX: Duration = Duration::from_secs(130);

#[test]
fn two_tabs_talk_over_webtransport_and_a_phone_reads_it() {
    let _alone = alone();
    let process = Process::start();
    Script::start("chat.mjs", &process, &[]).finish(|| {});
}

#[test]
fn two_people_do_everything_the_page_offers() {
    let _alone = alone();
    let process = Process::start();
    Script::start("features.mjs", &process, &[]).finish(|| {});
}

#[test]
fn without_udp_the_page_is_on_websocket() {
    let _alone = alone();
    let process = Process::start();
    let summary = Script::start("fallback.mjs", &process, &[]).finish(|| {});
    let ms = |name: &str| summary["figures"][name].as_u64().unwrap();
    eprintln!("on WebSocket after {} ms, at the next visit {} ms", ms("first_visit_ms"), ms("next_visit_ms"));
}

#[test]
fn pages_survive_a_kill_during_their_burst() {
    let _alone = alone();
    let mut process = Start::new().settled().run();
    let kept = process.keep_data().unwrap();
    // The script asks for the restart by one file and waits for the other.
    let (asked, done) = (kept.path().join("kill-it"), kept.path().join("it-is-back"));
    let command = format!("touch {}; until [ -e {} ]; do sleep 0.02; done", asked.display(), done.display());
    Script::start("resume.mjs", &process, &[("RESTART_CMD", &command)]).finish(|| {
        if asked.exists() && !done.exists() {
            process.kill();
            process = process.again().run();
            std::fs::write(&done, "").unwrap();
        }
    });
    assert!(done.exists(), "the script did not ask for its restart");
}

#[test]
fn a_page_is_told_why_its_session_was_closed() {
    let _alone = alone();
    let process = Process::start();
    let summary = Script::start("close.mjs", &process, &[]).finish(|| {});
    assert_eq!(summary["figures"]["close_code"], 4401, "{summary}");
}

#[test]
fn one_page_goes_live_and_another_hears_the_same_sound() {
    let _alone = alone();
    let process = Process::start();
    Script::start("live.mjs", &process, &[]).finish(|| {});
}

#[test]
fn a_page_hears_what_a_source_client_sends() {
    let _alone = alone();
    let process = Start::new().variable("ICECAST_PORT", 0).run();
    let door = format!("http://127.0.0.1:{}", process.icecast);
    Script::start("icecast.mjs", &process, &[("VEZA_ICECAST", &door)]).finish(|| {});
}

/// One browser at a time: what they measure is not each other.
fn alone() -> MutexGuard<'static, ()> {
    static BROWSER: Mutex<()> = Mutex::new(());
    BROWSER.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Script {
    name: &'static str,
    node: Child,
    begun: Instant,
}

impl Script {
    fn start(name: &'static str, process: &Process, variables: &[(&str, &str)]) -> Self {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/web");
        assert!(
            web.join("node_modules/playwright-core").exists(),
            "the browser tests need the packages of clients/web: run `npm ci` there (`make test` does)"
        );
        let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
        assert!(Path::new(&chromium).exists(), "the browser tests need Chromium: there is none at {chromium}");
        let node = Command::new("node")
            .arg(web.join("e2e").join(name))
            .current_dir(&web)
            .env("VEZA_URL", process.url())
            .env("CHROMIUM", chromium)
            .env("SHOTS", shots())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the browser tests need Node 20 or later as `node`");
        Self { name, node, begun: Instant::now() }
    }

    /// Waits for the script's end, calls `meanwhile` again and again, and gives the script's summary of a success.
    fn finish(mut self, mut meanwhile: impl FnMut()) -> Value {
        // The summary is short and comes last, so the pipe holds it until the script has ended.
        while self.node.try_wait().unwrap().is_none() {
            assert!(self.begun.elapsed() < SCRIPT_MAX, "{} does not end", self.name);
            meanwhile();
            std::thread::sleep(Duration::from_millis(10));
        }
        let summary = std::io::read_to_string(self.node.stdout.take().unwrap()).unwrap();
        let success = self.node.wait().unwrap().success();
        assert!(success, "{} failed:\n{summary}", self.name);
        let summary: Value = serde_json::from_str(&summary).unwrap();
        assert_eq!(summary["ok"], true, "{summary}");
        summary
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ended_already = self.node.kill();
        let _ended_already = self.node.wait();
    }
}

/// Where the pictures go: `target/shots`.
fn shots() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_veza"));
    binary.ancestors().nth(2).unwrap().join("shots")
}
