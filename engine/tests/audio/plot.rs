//! A run as a picture: four charts over time with adaptation on the left, the same without on the right.

use std::fmt::Write;

use crate::listening::Listening;
use crate::player::Heard;

const WIDTH: u64 = 400;
const HEIGHT: u64 = 100;
/// From one chart's top to the next one's.
const STEP: u64 = 150;
const TOP: u64 = 75;
const LEFT: [u64; 2] = [60, 530];
const BLUE: &str = "#1f5fb4";
const ORANGE: &str = "#c2570c";
const GREY: &str = "#8a8f98";

struct Chart {
    left: u64,
    top: u64,
    most: u64,
    end_ms: u64,
}

pub(crate) fn svg(title: &str, runs: [&Listening; 2]) -> String {
    let mut svg = String::new();
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 680" font-family="system-ui, sans-serif" font-size="12">
<title>{title}</title>
<rect width="960" height="680" fill="#ffffff"/>
<text x="20" y="24" font-size="15" font-weight="bold" fill="#1b1f24">{title}</text>"##
    )
    .unwrap();
    for ((run, left), name) in runs.into_iter().zip(LEFT).zip(["following", "not following"]) {
        writeln!(svg, r##"<text x="{left}" y="46" font-weight="bold" fill="#1b1f24">{name}</text>"##).unwrap();
        column(&mut svg, run, left);
    }
    svg.push_str("</svg>\n");
    svg
}

fn column(svg: &mut String, run: &Listening, left: u64) {
    let chart = |row: u64, most| Chart { left, top: TOP + row * STEP, most, end_ms: run.now_ms };
    let of = |value: fn(&crate::listening::Sample) -> u64| -> Vec<(u64, u64)> {
        run.samples.iter().map(|sample| (sample.ms, value(sample))).collect()
    };
    let rates = chart(0, 320);
    rates.frame(svg, 80, &[("kb/s: the link", GREY), ("the rung", BLUE)]);
    rates.line(svg, &of(|sample| sample.link_kbps), GREY);
    rates.line(svg, &of(|sample| sample.rung_kbps), BLUE);
    let packets = chart(1, 60);
    packets.frame(svg, 20, &[("ms of a packet", BLUE), ("copies, 20 each", ORANGE)]);
    packets.line(svg, &of(|sample| u64::from(sample.shape.packet_frames) * 20), BLUE);
    packets.line(svg, &of(|sample| u64::from(sample.shape.redundancy) * 20), ORANGE);
    let queue = chart(2, 300);
    queue.frame(svg, 100, &[("ms in the queue", BLUE)]);
    queue.line(svg, &of(|sample| sample.queue_ms), BLUE);
    let missing = chart(3, 50);
    missing.frame(svg, 25, &[("frames a second: concealed", ORANGE), ("silent", BLUE)]);
    for second in 0..run.now_ms / 1_000 {
        let of = |what| {
            run.player
                .iter()
                .flat_map(|player| &player.heard)
                .filter(|(ms, heard)| ms / 1_000 == second && *heard == what)
                .count() as u64
        };
        let silent = of(Heard::Silence);
        missing.bar(svg, second, 0, silent, BLUE);
        missing.bar(svg, second, silent, of(Heard::Concealed), ORANGE);
    }
}

impl Chart {
    fn frame(&self, svg: &mut String, every: u64, legend: &[(&str, &str)]) {
        let Self { left, top, most, end_ms } = self;
        write!(svg, r#"<text x="{left}" y="{}">"#, top - 8).unwrap();
        for (words, colour) in legend {
            write!(svg, r#"<tspan dx="4" fill="{colour}">{words}</tspan> "#).unwrap();
        }
        writeln!(svg, "</text>").unwrap();
        for value in (0..=*most).step_by(usize::try_from(every).unwrap()) {
            let y = self.y(value);
            writeln!(
                svg,
                r##"<path d="M{left} {y}h{WIDTH}" stroke="#e3e5e8"/><text x="{}" y="{}" text-anchor="end" fill="#555b64">{value}</text>"##,
                left - 6,
                y + 4
            )
            .unwrap();
        }
        for ms in (0..=*end_ms).step_by(20_000) {
            let unit = if ms == 0 { " s" } else { "" };
            writeln!(
                svg,
                r##"<text x="{}" y="{}" text-anchor="middle" fill="#555b64">{}{unit}</text>"##,
                self.x(ms),
                top + HEIGHT + 16,
                ms / 1_000
            )
            .unwrap();
        }
    }

    /// Steps; what is more than the chart's most runs along its upper edge.
    fn line(&self, svg: &mut String, points: &[(u64, u64)], colour: &str) {
        let mut path = String::new();
        let mut last = None;
        for (ms, value) in points {
            let y = self.y(*value);
            match last {
                None => write!(path, "M{} {y}", self.x(*ms)).unwrap(),
                Some(last) if last != y => write!(path, "H{}V{y}", self.x(*ms)).unwrap(),
                Some(_) => {}
            }
            last = Some(y);
        }
        write!(path, "H{}", self.x(self.end_ms)).unwrap();
        writeln!(svg, r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>"#).unwrap();
    }

    fn bar(&self, svg: &mut String, second: u64, from: u64, frames: u64, colour: &str) {
        if frames > 0 {
            let (x, y) = (self.x(second * 1_000), self.y(from + frames));
            let (width, height) = (self.x(second * 1_000 + 1_000) - x, self.y(from) - y);
            writeln!(svg, r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}"/>"#).unwrap();
        }
    }

    fn x(&self, ms: u64) -> u64 {
        self.left + ms * WIDTH / self.end_ms
    }

    fn y(&self, value: u64) -> u64 {
        self.top + HEIGHT - value.min(self.most) * HEIGHT / self.most
    }
}
