//! Pages of lists: their size, and the token that says where the next one begins.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::{Code, Status};
use veza_proto::gateway::v1::Reason;

use super::status;

/// A page token, bytes: a place in a list is never longer.
const TOKEN_BYTES_MAX: usize = 512;

/// How many are asked for: 0 is the default, more than there may be is what there may be.
pub(super) fn size(asked: u32, default: u32, max: u32) -> u32 {
    if asked == 0 { default } else { asked.min(max) }
}

/// The token of a place in the list called `list`. Callers are not to look inside; that they could does no harm, for what
/// they may see is decided anew for every page.
pub(super) fn token(list: &str, place: &str) -> String {
    if place.is_empty() { String::new() } else { URL_SAFE_NO_PAD.encode(format!("{list}/{place}")) }
}

/// The place that [`token`] was made of; `None` at the beginning.
///
/// # Errors
/// When it is none of this list's.
pub(super) fn place(list: &str, token: &str) -> Result<Option<String>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let read = || {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|_| token.len() <= TOKEN_BYTES_MAX)?;
        let text = String::from_utf8(bytes).ok()?;
        Some(text.strip_prefix(list)?.strip_prefix('/')?.to_owned())
    };
    read().map(Some).ok_or_else(unknown)
}

/// As [`token`], of a list whose places are numbers; 0 at the end.
pub(super) fn number_token(list: &str, place: u64) -> String {
    if place == 0 { String::new() } else { token(list, &place.to_string()) }
}

/// As [`place`], of a list whose places are numbers.
pub(super) fn number(list: &str, token: &str) -> Result<Option<u64>, Status> {
    place(list, token)?.map(|place| place.parse().map_err(|_| unknown())).transpose()
}

/// A place in the order of time and id.
pub(super) fn time_and_id(place: &str) -> Result<(u64, String), Status> {
    let (at_ms, id) = place.split_once(' ').ok_or_else(unknown)?;
    Ok((at_ms.parse().map_err(|_| unknown())?, id.to_owned()))
}

/// A token that nobody gave.
pub(super) fn unknown() -> Status {
    let sentence = "page_token comes from no answer to this request";
    status::because(Code::InvalidArgument, Reason::PageToken, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_place_in_its_own_list() {
        let token = token("rooms", "lobby/é");
        assert_eq!(place("rooms", &token).unwrap().as_deref(), Some("lobby/é"));
        assert_eq!(place("rooms", "").unwrap(), None);
        for (list, token) in [("members", token.as_str()), ("rooms", "lobby"), ("rooms", "*"), ("room", &token)] {
            assert_eq!(place(list, token).unwrap_err().code(), Code::InvalidArgument, "{list} {token}");
        }
        assert_eq!(super::token("rooms", ""), "", "the end has no token");
        assert_eq!(number("audit", &number_token("audit", 7)).unwrap(), Some(7));
        assert!(number("audit", &super::token("audit", "seven")).is_err() && number_token("audit", 0).is_empty());
        let long = super::token("rooms", &"x".repeat(TOKEN_BYTES_MAX));
        assert!(place("rooms", &long).is_err());
    }

    #[test]
    fn sizes_are_the_default_or_at_most_the_maximum() {
        assert_eq!([0, 1, 100, 101, u32::MAX].map(|asked| size(asked, 50, 100)), [50, 1, 100, 100, 100]);
    }
}
