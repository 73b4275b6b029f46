//! The review queue: what may be decided about a report, what that does, and the one appeal against it.

use veza_proto::gateway::v1::{Decision, Outcome, Review, ReviewAppeal, ReviewState};
use veza_proto::limits as wire;
use veza_proto::v1::{Error, Sanction};

use crate::check::{self, bad};
use crate::ledger::Actor;

/// A reporter's note, a statement of reasons, a moderators' note, an appeal.
pub const WORDS_BYTES_MAX: usize = 2_048;
pub const SCORES_MAX: usize = 16;
pub const LABEL_BYTES_MAX: usize = 32;
/// How long a decision can be appealed: six months at the least (EU Digital Services Act, article 20).
pub const APPEAL_WITHIN_MS: u64 = 184 * 24 * 3_600 * 1_000;

/// Why nothing happens to a review.
#[derive(Debug, Clone, PartialEq)]
pub enum No {
    /// Not in the state it is in.
    WrongState(&'static str),
    Forbidden(&'static str),
    /// It was changed since it was looked at.
    Changed,
    Invalid(&'static str, Error),
}

/// What a decision does in the review's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Delete,
    Moderate(Sanction),
}

/// Whether this decision may be made now, by somebody who moderates there. `decided_by` is filled in.
///
/// # Errors
/// Says what is in the way.
pub fn may_decide(review: &Review, decision: &Decision, by: &Actor, revision: u64) -> Result<(), No> {
    if revision != 0 && revision != review.revision {
        return Err(No::Changed);
    }
    words("decision.statement", &decision.statement)?;
    check::text("note", &decision.note, WORDS_BYTES_MAX).map_err(|error| No::Invalid("decision.note", error))?;
    let outcome = decision.outcome();
    let lasts = matches!(outcome, Outcome::Mute | Outcome::Kick | Outcome::Ban);
    if decision.seconds > wire::SANCTION_SECONDS_MAX || (decision.seconds != 0 && !lasts) {
        let sentence = format!("of a mute, kick or ban at most {}, else 0", wire::SANCTION_SECONDS_MAX);
        return Err(No::Invalid("decision.seconds", bad(&sentence)));
    }
    if by.user().is_some_and(|user| user.as_str() == review.user) {
        return Err(No::Forbidden("nobody decides about themselves"));
    }
    if by.user().is_some() && decision.automatic {
        return Err(No::Invalid("decision.automatic", bad("a user's decision is not automatic")));
    }
    let fits = match (review.state(), outcome) {
        (_, Outcome::Unspecified) => return Err(No::Invalid("decision.outcome", bad("outcome must be named"))),
        (ReviewState::Decided, _) => return Err(No::WrongState("this review is decided")),
        (ReviewState::Closed, _) => return Err(No::WrongState("the appeal against this review is decided")),
        (ReviewState::Open | ReviewState::Unspecified, Outcome::Dismiss | Outcome::Warn) => true,
        (ReviewState::Open | ReviewState::Unspecified, Outcome::DeleteMessage) => review.seq != 0,
        (ReviewState::Open | ReviewState::Unspecified, Outcome::Mute | Outcome::Kick | Outcome::Ban) => {
            !review.room.is_empty()
        }
        (ReviewState::Open | ReviewState::Unspecified, Outcome::Uphold) => false,
        (ReviewState::Appealed, Outcome::Dismiss | Outcome::Uphold) => {
            if decision.automatic {
                return Err(No::Forbidden("an appeal is decided by a person"));
            }
            // A service stands for whoever works with it, and tells them apart itself.
            let again = review.decisions.iter().any(|first| first.decided_by == by.as_str());
            if again && by.user().is_some() {
                return Err(No::Forbidden("who has decided a review does not decide its appeal"));
            }
            true
        }
        (ReviewState::Appealed, _) => false,
    };
    if fits { Ok(()) } else { Err(No::WrongState("this outcome does not fit this review")) }
}

/// What is to be carried out for it.
pub fn deed(review: &Review, decision: &Decision) -> Option<Deed> {
    let appealed = review.state() == ReviewState::Appealed;
    match decision.outcome() {
        Outcome::DeleteMessage => Some(Deed::Delete),
        Outcome::Mute => Some(Deed::Moderate(Sanction::Mute)),
        Outcome::Kick => Some(Deed::Moderate(Sanction::Kick)),
        Outcome::Ban => Some(Deed::Moderate(Sanction::Ban)),
        Outcome::Dismiss if appealed => review.decisions.first().and_then(lifted).map(Deed::Moderate),
        Outcome::Dismiss | Outcome::Warn | Outcome::Uphold | Outcome::Unspecified => None,
    }
}

/// What takes a decision back. What was deleted stays deleted, and who was kicked comes back by themselves.
fn lifted(first: &Decision) -> Option<Sanction> {
    match first.outcome() {
        Outcome::Mute => Some(Sanction::Unmute),
        Outcome::Ban => Some(Sanction::Unban),
        Outcome::Kick if first.seconds > 0 => Some(Sanction::Unban),
        Outcome::Kick
        | Outcome::Dismiss
        | Outcome::Warn
        | Outcome::DeleteMessage
        | Outcome::Uphold
        | Outcome::Unspecified => None,
    }
}

/// The review with a decision that was carried out.
pub fn decided(mut review: Review, decision: Decision) -> Review {
    let next = match review.state() {
        ReviewState::Appealed => ReviewState::Closed,
        ReviewState::Open | ReviewState::Decided | ReviewState::Closed | ReviewState::Unspecified => {
            ReviewState::Decided
        }
    };
    review.set_state(next);
    review.decisions.push(decision);
    review
}

/// The user that a decision was against asks for another look.
///
/// # Errors
/// When it is not theirs, nothing was decided against them, it is too late, or it was asked already.
pub fn appealed(mut review: Review, user: &str, text: &str, now_ms: u64) -> Result<Review, No> {
    words("text", text)?;
    if review.user != user {
        return Err(No::Forbidden("only the user that a decision was against may appeal"));
    }
    match review.state() {
        ReviewState::Open | ReviewState::Unspecified => return Err(No::WrongState("this review is not decided yet")),
        ReviewState::Appealed => return Err(No::WrongState("this decision is appealed already")),
        ReviewState::Closed => return Err(No::WrongState("the appeal was decided")),
        ReviewState::Decided => {}
    }
    let first = review.decisions.first();
    if first.is_none_or(|first| first.outcome() == Outcome::Dismiss) {
        return Err(No::WrongState("nothing was decided against you"));
    }
    if first.is_some_and(|first| now_ms > first.at_ms.saturating_add(APPEAL_WITHIN_MS)) {
        return Err(No::WrongState("the time to appeal has passed"));
    }
    review.appeal = Some(ReviewAppeal { user: user.to_owned(), text: text.to_owned(), at_ms: now_ms });
    review.set_state(ReviewState::Appealed);
    Ok(review)
}

/// As its reporter or the user it is about may see it, `None` for everybody else: neither is shown the other's name,
/// and no scores and notes. Moderators see all of it.
pub fn shown_to(mut review: Review, user: &str) -> Option<Review> {
    if review.user == user {
        (review.reporter, review.note) = (String::new(), String::new());
    } else if review.reporter == user {
        (review.user, review.message, review.appeal) = (String::new(), None, None);
    } else {
        return None;
    }
    review.scores.clear();
    for decision in &mut review.decisions {
        decision.note.clear();
    }
    Some(review)
}

fn words(field: &'static str, text: &str) -> Result<(), No> {
    check::text("it", text, WORDS_BYTES_MAX).map_err(|error| No::Invalid(field, error))?;
    if text.trim().is_empty() { Err(No::Invalid(field, bad("it must not be empty"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use veza_proto::UserId;

    fn open() -> Review {
        Review {
            id: "r".into(),
            state: ReviewState::Open.into(),
            room: "lounge".into(),
            seq: 7,
            user: "bob".into(),
            reporter: "carol".into(),
            note: "look at this".into(),
            revision: 1,
            ..Review::default()
        }
    }

    fn by(user: &str) -> Actor {
        Actor::User(UserId::parse(user).unwrap())
    }

    fn of(outcome: Outcome) -> Decision {
        Decision { outcome: outcome.into(), statement: "spam".into(), decided_by: "mod".into(), ..Decision::default() }
    }

    fn may(review: &Review, outcome: Outcome) -> Result<(), No> {
        may_decide(review, &of(outcome), &by("mod"), 0)
    }

    #[test]
    fn an_open_review_is_decided_once() {
        for outcome in [Outcome::Dismiss, Outcome::Warn, Outcome::DeleteMessage, Outcome::Mute, Outcome::Ban] {
            assert_eq!(may(&open(), outcome), Ok(()), "{outcome:?}");
        }
        assert!(matches!(may(&open(), Outcome::Uphold), Err(No::WrongState(_))));
        assert!(matches!(may(&open(), Outcome::Unspecified), Err(No::Invalid("decision.outcome", _))));
        let decided = decided(open(), of(Outcome::Mute));
        assert_eq!((decided.state(), decided.decisions.len()), (ReviewState::Decided, 1));
        assert!(matches!(may(&decided, Outcome::Dismiss), Err(No::WrongState(_))));
        let alone = Review { room: String::new(), seq: 0, ..open() };
        for outcome in [Outcome::DeleteMessage, Outcome::Mute, Outcome::Kick, Outcome::Ban] {
            assert!(matches!(may(&alone, outcome), Err(No::WrongState(_))), "{outcome:?} needs a room");
        }
        assert_eq!(may_decide(&open(), &of(Outcome::Warn), &by("mod"), 2), Err(No::Changed));
        assert_eq!(may_decide(&open(), &of(Outcome::Warn), &by("mod"), 1), Ok(()));
        assert!(matches!(may_decide(&open(), &of(Outcome::Dismiss), &by("bob"), 0), Err(No::Forbidden(_))));
    }

    #[test]
    fn words_and_seconds_at_their_limits_and_past_them() {
        let stated = |n: usize| Decision { statement: "s".repeat(n), ..of(Outcome::Warn) };
        let may = |decision: &Decision| may_decide(&open(), decision, &by("mod"), 0).is_ok();
        assert!(may(&stated(WORDS_BYTES_MAX)) && !may(&stated(WORDS_BYTES_MAX + 1)) && !may(&stated(0)));
        let noted = |n: usize| Decision { note: "n".repeat(n), ..of(Outcome::Warn) };
        assert!(may(&noted(WORDS_BYTES_MAX)) && !may(&noted(WORDS_BYTES_MAX + 1)));
        let long = |seconds| Decision { seconds, ..of(Outcome::Ban) };
        assert!(may(&long(wire::SANCTION_SECONDS_MAX)) && !may(&long(wire::SANCTION_SECONDS_MAX + 1)));
        assert!(!may(&Decision { seconds: 1, ..of(Outcome::Warn) }), "a warning does not last");
    }

    #[test]
    fn an_appeal_is_made_once_in_time_by_whom_it_concerns() {
        let banned = decided(open(), Decision { at_ms: 1_000, ..of(Outcome::Ban) });
        let last = 1_000 + APPEAL_WITHIN_MS;
        assert!(appealed(open(), "bob", "no", 1).is_err(), "nothing is decided");
        assert!(matches!(appealed(banned.clone(), "carol", "no", 2_000), Err(No::Forbidden(_))));
        assert!(matches!(appealed(banned.clone(), "bob", "no", last + 1), Err(No::WrongState(_))));
        let asked = appealed(banned.clone(), "bob", "it was a joke", last).unwrap();
        assert_eq!(asked.state(), ReviewState::Appealed);
        assert!(matches!(appealed(asked.clone(), "bob", "again", last), Err(No::WrongState(_))));
        assert!(matches!(appealed(banned.clone(), "bob", " ", 2_000), Err(No::Invalid("text", _))));
        assert!(appealed(banned.clone(), "bob", &"t".repeat(WORDS_BYTES_MAX), 2_000).is_ok());
        assert!(appealed(banned, "bob", &"t".repeat(WORDS_BYTES_MAX + 1), 2_000).is_err());
        let dismissed = decided(open(), of(Outcome::Dismiss));
        assert!(matches!(appealed(dismissed, "bob", "no", 1), Err(No::WrongState(_))));

        assert!(matches!(may(&asked, Outcome::Uphold), Err(No::Forbidden(_))), "mod has decided it first");
        assert_eq!(may_decide(&asked, &of(Outcome::Uphold), &by("other"), 0), Ok(()));
        assert!(matches!(may_decide(&asked, &of(Outcome::Ban), &by("other"), 0), Err(No::WrongState(_))));
        let alone = Decision { automatic: true, ..of(Outcome::Uphold) };
        assert!(matches!(may_decide(&asked, &alone, &Actor::service("bot"), 0), Err(No::Forbidden(_))));
        let closed = decided(asked, of(Outcome::Uphold));
        assert_eq!(closed.state(), ReviewState::Closed);
        assert!(matches!(may_decide(&closed, &of(Outcome::Uphold), &by("third"), 0), Err(No::WrongState(_))));
    }

    #[test]
    fn what_a_decision_does_and_what_takes_it_back() {
        let back = |outcome, seconds| {
            let review = decided(open(), Decision { seconds, ..of(outcome) });
            let review = appealed(review, "bob", "no", 1).unwrap();
            (deed(&review, &of(Outcome::Dismiss)), deed(&review, &of(Outcome::Uphold)))
        };
        assert_eq!(deed(&open(), &of(Outcome::Dismiss)), None);
        assert_eq!(deed(&open(), &of(Outcome::DeleteMessage)), Some(Deed::Delete));
        assert_eq!(deed(&open(), &of(Outcome::Kick)), Some(Deed::Moderate(Sanction::Kick)));
        assert_eq!(back(Outcome::Mute, 0), (Some(Deed::Moderate(Sanction::Unmute)), None));
        assert_eq!(back(Outcome::Ban, 60), (Some(Deed::Moderate(Sanction::Unban)), None));
        assert_eq!(back(Outcome::Kick, 60), (Some(Deed::Moderate(Sanction::Unban)), None));
        assert_eq!(back(Outcome::Kick, 0), (None, None));
        assert_eq!(back(Outcome::DeleteMessage, 0), (None, None));
    }

    #[test]
    fn reporter_and_reported_do_not_see_each_other() {
        let noted = Decision { note: "third time".into(), ..of(Outcome::Warn) };
        let review = decided(open(), noted);
        let bobs = shown_to(review.clone(), "bob").unwrap();
        assert_eq!((bobs.reporter.as_str(), bobs.note.as_str(), bobs.user.as_str()), ("", "", "bob"));
        let carols = shown_to(review.clone(), "carol").unwrap();
        assert_eq!((carols.reporter.as_str(), carols.user.as_str()), ("carol", ""));
        assert!(bobs.decisions[0].note.is_empty() && carols.decisions[0].note.is_empty());
        assert_eq!(shown_to(review, "dave"), None);
    }
}
