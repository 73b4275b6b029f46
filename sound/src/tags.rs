//! What is played, as comments say it (Vorbis comments, which Opus has too: RFC 7845, section 5.2).

/// A line for people at most, bytes.
const PLAYING_BYTES_MAX: usize = 256;
/// Comments that are looked at.
const COMMENTS_MAX: u32 = 1_000;

/// Artist and title out of a comment header, behind its magic; `None` when they say neither.
pub(crate) fn playing(comments: &[u8]) -> Option<String> {
    let (_vendor, rest) = text(comments)?;
    let (count, mut rest) = number(rest)?;
    let (mut artist, mut title) = (None, None);
    for _ in 0..count.min(COMMENTS_MAX) {
        let Some((comment, after)) = text(rest) else { break };
        rest = after;
        let comment = String::from_utf8_lossy(comment);
        let Some((name, value)) = comment.split_once('=') else { continue };
        let slot = match name.to_ascii_uppercase().as_str() {
            "ARTIST" => &mut artist,
            "TITLE" => &mut title,
            _ => continue,
        };
        slot.get_or_insert_with(|| value.to_owned());
    }
    line(artist.as_deref(), title.as_deref())
}

/// One line of artist and title, without what would break it.
pub fn line(artist: Option<&str>, title: Option<&str>) -> Option<String> {
    let clean = |text: Option<&str>| {
        let text: String = text.unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let mut line = match (clean(artist), clean(title)) {
        (Some(artist), Some(title)) => format!("{artist} – {title}"),
        (one, other) => one.or(other)?,
    };
    line.truncate(line.floor_char_boundary(PLAYING_BYTES_MAX));
    Some(line)
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comments(lines: &[&str]) -> Vec<u8> {
        let text = |text: &str| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
        let lines: Vec<u8> = lines.iter().flat_map(|line| text(line)).collect();
        let count = if lines.is_empty() { 0 } else { lines.len().min(9) as u32 };
        [text("a vendor"), count.to_le_bytes().to_vec(), lines].concat()
    }

    #[test]
    fn artist_and_title_in_one_line() {
        assert_eq!(playing(&comments(&["ARTIST=A", "title=T"])).as_deref(), Some("A – T"));
        assert_eq!(playing(&comments(&["encoder=x", "TITLE=only\nthis"])).as_deref(), Some("onlythis"));
        assert_eq!(playing(&comments(&["TITLE= "])), None);
        assert_eq!(playing(&comments(&[])), None);
        assert_eq!(playing(b"short"), None);
    }

    #[test]
    fn a_line_at_its_bound_and_one_past() {
        let exactly = "x".repeat(PLAYING_BYTES_MAX);
        assert_eq!(line(None, Some(&exactly)), Some(exactly.clone()));
        assert_eq!(line(None, Some(&format!("{exactly}y"))), Some(exactly));
        let wide = line(None, Some(&"é".repeat(129))).map(|line| line.len());
        assert_eq!(wide, Some(PLAYING_BYTES_MAX));
    }
}
