//! What the person at the terminal sees: a line that tells how it goes, and one for each thing that happens.

use std::io::Write;

use veza_client::proto::media::FRAME_MS;

/// The standard error, which is a terminal or a log.
pub(super) struct Screen {
    is_terminal: bool,
    /// Frames that were played.
    frames: u64,
    listeners: u32,
    /// The last refusal, which is not said twice.
    refusal: String,
}

impl Screen {
    pub(super) fn new(is_terminal: bool) -> Self {
        Self { is_terminal, frames: 0, listeners: 0, refusal: String::new() }
    }

    pub(super) fn count(&mut self, frames: u32) {
        self.frames += u64::from(frames);
    }

    pub(super) fn listeners(&mut self, listeners: u32) {
        self.listeners = listeners;
    }

    /// Why frames are refused, or nothing.
    pub(super) fn refused(&mut self, refusal: &str) -> std::io::Result<()> {
        if refusal == self.refusal {
            return Ok(());
        }
        refusal.clone_into(&mut self.refusal);
        if refusal.is_empty() { Ok(()) } else { self.say(refusal) }
    }

    /// How it goes; only a terminal can show it in one line.
    pub(super) fn show(&self) -> std::io::Result<()> {
        if !self.is_terminal {
            return Ok(());
        }
        let mut out = std::io::stderr().lock();
        write!(out, "\r\x1b[K{}", self.line())?;
        out.flush()
    }

    pub(super) fn say(&self, line: &str) -> std::io::Result<()> {
        let begin = if self.is_terminal { "\r\x1b[K" } else { "" };
        writeln!(std::io::stderr().lock(), "{begin}-- {line}")
    }

    fn line(&self) -> String {
        let seconds = self.frames * u64::from(FRAME_MS) / 1_000;
        format!("{:02}:{:02}  {} listening", seconds / 60, seconds % 60, self.listeners)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_what_was_played_and_who_listens() {
        let mut screen = Screen::new(true);
        assert_eq!(screen.line(), "00:00  0 listening");
        screen.count(50 * 60 * 100 + 49);
        screen.listeners(3);
        assert_eq!(screen.line(), "100:00  3 listening");
        screen.count(1);
        assert_eq!(screen.line(), "100:01  3 listening");
    }
}
