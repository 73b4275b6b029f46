//! What texts and contents may be, checked where they come in: by sessions and by gateways alike.

use std::collections::BTreeSet;

use veza_proto::v1::{Attachment, Error, ErrorCode};
use veza_proto::{InvalidId, UserId, limits as wire};

use crate::ledger::Content;

type Checked = Result<(), Error>;

/// A new message.
///
/// # Errors
/// Names the part that may not be so, here as below.
pub fn said(
    body: String,
    thread: u64,
    reply_to: u64,
    mentioned: Vec<String>,
    attachments: Vec<Attachment>,
) -> Result<Content, Error> {
    check_body(&body, !attachments.is_empty())?;
    if attachments.len() > wire::ATTACHMENTS_MAX {
        return Err(bad(format!("a message may have {} attachments", wire::ATTACHMENTS_MAX)));
    }
    attachments.iter().try_for_each(attachment)?;
    fits(Content::Text { body, thread, reply_to, mentions: mentions(mentioned)?, attachments })
}

pub fn edited(target: u64, body: String, mentioned: Vec<String>) -> Result<Content, Error> {
    check_body(&body, false)?;
    fits(Content::Edit { target, body, mentions: mentions(mentioned)? })
}

pub fn deleted(target: u64, reason: String) -> Result<Content, Error> {
    text("reason", &reason, wire::REASON_BYTES_MAX)?;
    fits(Content::Delete { target, reason })
}

pub fn reacted(target: u64, with: String, remove: bool) -> Result<Content, Error> {
    emoji(&with)?;
    fits(Content::React { target, emoji: with, remove })
}

pub fn pinned(target: u64, remove: bool) -> Result<Content, Error> {
    fits(Content::Pin { target, remove })
}

fn fits(content: Content) -> Result<Content, Error> {
    if content.len() > wire::CONTENT_BYTES_MAX {
        let (max, len) = (wire::CONTENT_BYTES_MAX, content.len());
        let message = format!("a message with mentions and attachments may have {max} bytes, this has {len}");
        return Err(Error::permanent(ErrorCode::TooLarge, message));
    }
    if content.target() == Some(0) {
        return Err(bad("seq names the message"));
    }
    Ok(content)
}

fn check_body(body: &str, may_be_empty: bool) -> Checked {
    if body.is_empty() && !may_be_empty {
        return Err(bad("body must not be empty"));
    }
    if body.len() > wire::BODY_BYTES_MAX {
        let message = format!("body may have {} bytes, this has {}", wire::BODY_BYTES_MAX, body.len());
        return Err(Error::permanent(ErrorCode::TooLarge, message));
    }
    text("body", body, wire::BODY_BYTES_MAX)
}

/// Each once, in the order given.
fn mentions(users: Vec<String>) -> Result<Vec<String>, Error> {
    if users.len() > wire::MENTIONS_MAX {
        return Err(bad(format!("a message may mention {} users", wire::MENTIONS_MAX)));
    }
    let mut known = BTreeSet::new();
    let mut once = Vec::with_capacity(users.len());
    for user in users {
        if user != "*" {
            UserId::parse(&user).map_err(invalid)?;
        }
        if known.insert(user.clone()) {
            once.push(user);
        }
    }
    Ok(once)
}

fn attachment(attachment: &Attachment) -> Checked {
    line("an attachment's url", &attachment.url, wire::ATTACHMENT_URL_BYTES_MAX)?;
    line("an attachment's name", &attachment.name, wire::ATTACHMENT_NAME_BYTES_MAX)?;
    line("an attachment's media_type", &attachment.media_type, wire::ATTACHMENT_TYPE_BYTES_MAX)?;
    let host = attachment.url.strip_prefix("https://").unwrap_or_default();
    if host.is_empty() || attachment.url.contains(char::is_whitespace) {
        return Err(bad("an attachment's url begins with https:// and has no spaces"));
    }
    if attachment.media_type.split_once('/').is_none_or(|(kind, sub)| kind.is_empty() || sub.is_empty()) {
        return Err(bad("an attachment's media_type is like image/png"));
    }
    if attachment.sha256.len() != 32 {
        return Err(bad("an attachment's sha256 has 32 bytes"));
    }
    Ok(())
}

pub fn emoji(emoji: &str) -> Checked {
    line("emoji", emoji, wire::EMOJI_BYTES_MAX)?;
    if emoji.is_empty() || emoji.contains(char::is_whitespace) {
        return Err(bad("emoji must not be empty or hold spaces"));
    }
    Ok(())
}

pub fn invalid(error: InvalidId) -> Error {
    Error::permanent(ErrorCode::InvalidArgument, error.to_string())
}

pub fn at_most(what: &str, len: usize, max: usize) -> Result<(), Error> {
    if len > max {
        let message = format!("{what} may have {max} bytes, this has {len}");
        return Err(Error::permanent(ErrorCode::InvalidArgument, message));
    }
    Ok(())
}

/// A text for people: its length, and no NUL, which no database would keep alike.
pub fn text(what: &str, text: &str, max: usize) -> Result<(), Error> {
    at_most(what, text.len(), max)?;
    if text.contains('\0') {
        return Err(Error::permanent(ErrorCode::InvalidArgument, format!("{what} may not hold NUL")));
    }
    Ok(())
}

/// A text that stands in one line.
pub fn line(what: &str, text: &str, max: usize) -> Result<(), Error> {
    at_most(what, text.len(), max)?;
    if text.chars().any(char::is_control) {
        let message = format!("{what} may not hold control characters");
        return Err(Error::permanent(ErrorCode::InvalidArgument, message));
    }
    Ok(())
}

pub fn bad(message: impl Into<String>) -> Error {
    Error::permanent(ErrorCode::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(url: usize) -> Attachment {
        Attachment {
            url: format!("https://{}", "u".repeat(url - 8)),
            name: "n".repeat(wire::ATTACHMENT_NAME_BYTES_MAX),
            media_type: format!("image/{}", "p".repeat(wire::ATTACHMENT_TYPE_BYTES_MAX - 6)),
            size_bytes: 1,
            sha256: vec![7; 32].into(),
        }
    }

    #[test]
    fn every_bound_at_its_limit_and_one_past() {
        assert!(check_body(&"x".repeat(wire::BODY_BYTES_MAX), false).is_ok());
        assert!(check_body(&"x".repeat(wire::BODY_BYTES_MAX + 1), false).is_err());
        assert!(check_body("", true).is_ok() && check_body("", false).is_err());
        let users = |count: usize| mentions((0..count).map(|n| format!("u{n}")).collect());
        assert!(users(wire::MENTIONS_MAX).is_ok() && users(wire::MENTIONS_MAX + 1).is_err());
        assert!(emoji(&"x".repeat(wire::EMOJI_BYTES_MAX)).is_ok());
        assert!(emoji(&"x".repeat(wire::EMOJI_BYTES_MAX + 1)).is_err());
        let max = attached(wire::ATTACHMENT_URL_BYTES_MAX);
        assert!(attachment(&max).is_ok());
        assert!(attachment(&attached(wire::ATTACHMENT_URL_BYTES_MAX + 1)).is_err());
        for past in [
            Attachment { name: format!("{}n", max.name), ..max.clone() },
            Attachment { media_type: format!("{}p", max.media_type), ..max.clone() },
            Attachment { sha256: vec![7; 33].into(), ..max.clone() },
            Attachment { url: "https://".into(), ..max.clone() },
        ] {
            assert!(attachment(&past).is_err(), "{past:?}");
        }
    }

    #[test]
    fn right_to_left_text_and_emoji_are_text() {
        assert!(
            check_body(
                "مرحبا 👩‍👩‍👧 שלום
	שורה",
                false
            )
            .is_ok()
        );
        assert!(check_body("a\0b", false).is_err());
        assert_eq!(mentions(vec!["bob".into(), "*".into(), "bob".into()]).unwrap(), ["bob", "*"]);
    }
}
