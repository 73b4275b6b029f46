//! What following a network is worth: the same run with and without, as pictures and a table of `docs/audio-following.md`.

use std::fmt::Write;
use std::path::Path;

use crate::listening::Listening;
use crate::play;
use crate::player::{Heard, Player};
use crate::plot::svg;

/// The trace, what it is called, and when its network has become well again.
const RUNS: [(&str, &str, Option<u64>); 4] = [
    ("collapse", "300, 60, 300 kb/s", Some(50_000)),
    ("loss", "5 %, 2 %, no random loss", Some(50_000)),
    ("bursts", "10 % lost, four in a row", Some(40_000)),
    ("bloat200", "140 kb/s, 200 ms of buffer", None),
];
const BEGIN: &str = "<!-- figures -->\n";
const END: &str = "<!-- end of figures -->";
/// Sound is back when it stays for so long.
const WHOLE_FRAMES: usize = 250;

#[test]
fn the_page_shows_what_following_is_worth_today() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut table = String::from(
        "| network | following | underruns a minute | silent s a minute | concealed | sound whole again | best quality again | mean kb/s |\n|---|---|---|---|---|---|---|---|\n",
    );
    for (name, title, well) in RUNS {
        let story = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/audio/traces/{name}.txt"));
        let story = std::fs::read_to_string(story).unwrap();
        let runs = [true, false].map(|follows| play(&story, follows, Some(Player::new())).1);
        for (run, follows) in runs.iter().zip(["yes", "no"]) {
            writeln!(table, "| {title} | {follows} | {} |", row(run, well)).unwrap();
        }
        let picture = root.join(format!("docs/images/audio-{name}.svg"));
        check(&picture, &svg(title, [&runs[0], &runs[1]]));
    }
    let page = root.join("docs/audio-following.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    check(&page, &format!("{before}{BEGIN}{table}{END}{after}"));
}

fn check(path: &Path, drawn: &str) {
    if std::env::var_os("UPDATE_TRACES").is_some() {
        std::fs::write(path, drawn).unwrap();
    }
    let is_current = std::fs::read_to_string(path).is_ok_and(|there| there == drawn);
    assert!(is_current, "{} is not what is drawn now; UPDATE_TRACES=1 draws it anew", path.display());
}

fn row(run: &Listening, well: Option<u64>) -> String {
    let player = run.player.as_ref().unwrap();
    let heard = &player.heard;
    let count = |what| heard.iter().filter(|(_, heard)| *heard == what).count() as u64;
    let tenths = |value: u64| format!("{}.{}", value / 10, value % 10);
    let seconds = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), |ms| format!("{} s", tenths(ms / 100)));
    let (mut whole, mut best) = ("–".to_owned(), "–".to_owned());
    if let Some(well) = well {
        let after: Vec<_> = heard.iter().filter(|(ms, _)| *ms >= well).collect();
        let back = after.windows(WHOLE_FRAMES).find(|frames| frames.iter().all(|(_, heard)| *heard == Heard::Sound));
        whole = seconds(back.map(|frames| frames[0].0 - well));
        let is_best =
            |shape: veza_engine::audio::Shape| (shape.rung, shape.packet_frames, shape.redundancy) == (0, 1, 0);
        let back = run.samples.iter().find(|sample| sample.ms >= well && is_best(sample.shape));
        best = seconds(back.map(|sample| sample.ms - well));
    }
    format!(
        "{} | {} | {} % | {whole} | {best} | {}",
        tenths(player.underruns * 600_000 / run.now_ms),
        tenths(count(Heard::Silence) * 20 * 600 / run.now_ms),
        tenths(count(Heard::Concealed) * 1_000 / heard.len() as u64),
        run.bytes * 8 / run.now_ms,
    )
}
