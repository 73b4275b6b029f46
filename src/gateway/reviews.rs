//! The review queue: what was reported, what moderators decide about it, and the appeal against that. A decision is
//! written down before it is carried out, so that after a crash whoever comes next carries it out, once.

#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::{Code, Request, Response, Status};
use veza_engine::ledger::{Actor, AuditRow, KEPT_MS, OnceKey, Write};
use veza_engine::reviews::{self, Deed, LABEL_BYTES_MAX, No, SCORES_MAX, WORDS_BYTES_MAX};
use veza_engine::{Ask, check};
use veza_proto::gateway::v1::*;
use veza_proto::limits as wire;
use veza_proto::v1::{Action, Error, ErrorCode, Message, Sanction};
use veza_proto::{Cmid, RoomId, UserId};

use super::answers;
use super::caller::Caller;
use super::desk::{ATTEMPTS_MAX, Records, busy, failed};
use super::fields::{self, At};
use super::pages;
use super::status::{at_field, bad_field, because, refused};
use crate::hub::Call;
use crate::store::desk::{Queue, ReviewRow, Used};

/// In whose name decisions are carried out once, and reports by users are filed; no service is called so.
const CARRIER: &str = "@reviews";
const LIST: &str = "reviews";

/// The part of `veza.gateway.v1.Moderation` that is about reviews.
pub(super) struct ReviewCalls {
    pub(super) records: Records,
}

type Answered<T> = Result<Response<T>, Status>;

impl ReviewCalls {
    pub(super) async fn file(&self, request: Request<FileReviewRequest>) -> Answered<FileReviewResponse> {
        let (caller, asked) = Caller::take(request)?;
        let actor = caller.actor(&asked.actor)?;
        let source = source(&actor, asked.source())?;
        if asked.category() == ReviewCategory::Unspecified {
            return Err(bad_field("category", "category must be named"));
        }
        check::text("note", &asked.note, WORDS_BYTES_MAX).at("note")?;
        check_scores(&asked.scores)?;
        let room = fields::some_room("room", &asked.room)?;
        let named = fields::some_user("user", &asked.user)?;
        let call = caller.once(actor, "FileReview", &asked.idempotency_key, &asked)?;
        if let Some(made) = self.records.made(&call).await? {
            return self.filed(self.found(&made).await?.review, &call.actor).await;
        }
        self.records.within_rate(&call)?;
        let message = self.message(&call.actor, room.as_ref(), asked.seq).await?;
        let user = about(&call.actor, message.as_ref(), named)?;
        let review = Review {
            id: URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()),
            created_ms: self.records.hub.now_ms(),
            state: ReviewState::Open.into(),
            source: source.into(),
            category: asked.category,
            room: asked.room,
            seq: asked.seq,
            user: String::from(&user),
            reporter: call.actor.user().map(String::from).unwrap_or_default(),
            note: asked.note,
            scores: asked.scores,
            revision: 1,
            message,
            ..Review::default()
        };
        let row = ReviewRow { report: report(&review), review, pending: None };
        if !row.report.is_empty()
            && let Some(filed) = self.records.desk.reported(&row.report).await.map_err(failed)?
        {
            return self.filed(filed.review, &call.actor).await;
        }
        let used = self.records.used(&call, &row.review.id);
        if !self.records.keep_review(&row, used.as_ref()).await? {
            // The same report came by another way at the same time.
            let filed = self.records.desk.reported(&row.report).await.map_err(failed)?.ok_or_else(busy)?;
            return self.filed(filed.review, &call.actor).await;
        }
        self.filed(row.review, &call.actor).await
    }

    /// The answer to who files it, or has filed it before. The audit log does not name who reported it: moderators may be
    /// reported as well.
    async fn filed(&self, review: Review, actor: &Actor) -> Answered<FileReviewResponse> {
        // Whoever asks again after a break completes it; later it is in the log since long.
        if self.records.hub.now_ms() < review.created_ms.saturating_add(KEPT_MS) {
            let by = match review.reporter.as_str() {
                "" => actor.id().clone(),
                _named => Actor::service(CARRIER).id().clone(),
            };
            self.audit(&review, "file", by, "file_review", "", String::new()).await?;
        }
        Ok(Response::new(FileReviewResponse { review: as_seen_by(review, actor) }))
    }

    pub(super) async fn list(&self, request: Request<ListReviewsRequest>) -> Answered<ListReviewsResponse> {
        let (caller, asked) = Caller::take(request)?;
        let actor = caller.actor(&asked.actor)?;
        let room = fields::some_room("room", &asked.room)?;
        match (&room, &actor) {
            (None, Actor::User(_)) => return Err(bad_field("room", "an actor names the room that they moderate")),
            (Some(room), Actor::User(_)) => self.moderates(&actor, room).await?,
            (_, Actor::Service(_)) => {}
        }
        let user = fields::some_user("user", &asked.user)?;
        let after = pages::place(LIST, &asked.page_token)?.map(|place| pages::time_and_id(&place)).transpose()?;
        let size = pages::size(asked.page_size, wire::HISTORY_PAGE_DEFAULT, wire::HISTORY_PAGE_MAX);
        let which = Queue {
            state: Some(asked.state()).filter(|state| *state != ReviewState::Unspecified),
            category: Some(asked.category()).filter(|category| *category != ReviewCategory::Unspecified),
            room: room.map(|room| String::from(&room)),
            user: user.as_ref().map(String::from),
            after,
        };
        let rows = self.records.desk.reviews(&which, size + 1).await.map_err(failed)?;
        let more = rows.len() > size as usize;
        let reviews = rows.into_iter().take(size as usize).map(|row| as_moderated_by(row.review, &actor));
        let reviews: Vec<Review> = reviews.collect();
        let last = reviews.last().filter(|_| more);
        let place = last.map(|last| format!("{} {}", last.created_ms, last.id)).unwrap_or_default();
        Ok(Response::new(ListReviewsResponse { next_page_token: pages::token(LIST, &place), reviews }))
    }

    pub(super) async fn get(&self, request: Request<GetReviewRequest>) -> Answered<GetReviewResponse> {
        let (caller, asked) = Caller::take(request)?;
        let actor = caller.actor(&asked.actor)?;
        let row = self.found(&asked.id).await?;
        let review = match self.may_moderate(&row.review, &actor).await {
            Ok(()) => as_moderated_by(row.review, &actor),
            Err(status) if status.code() == Code::Unavailable => return Err(status),
            Err(_) => as_seen_by(row.review, &actor).ok_or_else(no_review)?,
        };
        Ok(Response::new(GetReviewResponse { review: Some(review) }))
    }

    pub(super) async fn decide(&self, request: Request<DecideRequest>) -> Answered<DecideResponse> {
        let (caller, asked) = Caller::take(request)?;
        let call = caller.once(caller.actor(&asked.actor)?, "Decide", &asked.idempotency_key, &asked)?;
        let wanted = asked.decision.clone().unwrap_or_default();
        let decision = Decision { decided_by: call.actor.as_str().to_owned(), at_ms: 0, ..wanted };
        for _ in 0..ATTEMPTS_MAX {
            if let Some(made) = self.records.made(&call).await? {
                let review = as_moderated_by(self.found(&made).await?.review, &call.actor);
                return Ok(Response::new(DecideResponse { review: Some(review) }));
            }
            let row = self.found(&asked.id).await?;
            self.may_moderate(&row.review, &call.actor).await?;
            let used = self.records.used(&call, &asked.id);
            if let Some(pending) = &row.pending {
                let is_this = Decision { at_ms: 0, ..pending.clone() } == decision;
                let done = self.carry_out(row, used.filter(|_| is_this)).await;
                if is_this {
                    return Ok(Response::new(DecideResponse { review: Some(done?) }));
                }
                continue;
            }
            reviews::may_decide(&row.review, &decision, &call.actor, asked.revision).map_err(said)?;
            self.records.within_rate(&call)?;
            let pending = Some(Decision { at_ms: self.records.hub.now_ms(), ..decision.clone() });
            let begun = ReviewRow { review: next(row.review), pending, ..row };
            if self.records.keep_review(&begun, None).await? {
                let review = Some(self.carry_out(begun, used).await?);
                return Ok(Response::new(DecideResponse { review }));
            }
        }
        Err(busy())
    }

    pub(super) async fn appeal(&self, request: Request<AppealRequest>) -> Answered<AppealResponse> {
        let (caller, asked) = Caller::take(request)?;
        let Actor::User(user) = caller.actor(&asked.actor)? else {
            return Err(bad_field("actor", "the user that the decision was against"));
        };
        let call = caller.once(Actor::User(user.clone()), "Appeal", &asked.idempotency_key, &asked)?;
        for attempt in 0..ATTEMPTS_MAX {
            if let Some(made) = self.records.made(&call).await? {
                let review = self.found(&made).await?.review;
                self.appealed(&review, &user).await?;
                return Ok(Response::new(AppealResponse { review: as_seen_by(review, &call.actor) }));
            }
            if attempt == 0 {
                self.records.within_rate(&call)?;
            }
            let row = self.found(&asked.id).await?;
            as_seen_by(row.review.clone(), &call.actor).ok_or_else(no_review)?;
            let now_ms = self.records.hub.now_ms();
            let review = reviews::appealed(row.review, user.as_str(), &asked.text, now_ms).map_err(said)?;
            let row = ReviewRow { review: next(review), ..row };
            let used = self.records.used(&call, &asked.id);
            if self.records.keep_review(&row, used.as_ref()).await? {
                self.appealed(&row.review, &user).await?;
                return Ok(Response::new(AppealResponse { review: as_seen_by(row.review, &call.actor) }));
            }
        }
        Err(busy())
    }

    async fn found(&self, id: &str) -> Result<ReviewRow, Status> {
        check::line("id", id, wire::CMID_BYTES_MAX).at("id")?;
        self.records.desk.review(id).await.map_err(failed)?.ok_or_else(no_review)
    }

    async fn appealed(&self, review: &Review, user: &UserId) -> Result<(), Status> {
        self.audit(review, "appeal", user.clone(), "appeal_review", "", String::new()).await
    }

    /// Has the audit log of the review's room say what was done about it, once. `step` tells it from what else is done
    /// about this review.
    async fn audit(
        &self,
        review: &Review,
        step: &str,
        by: UserId,
        action: &'static str,
        reason: &str,
        outcome: String,
    ) -> Result<(), Status> {
        let Ok(room) = RoomId::parse(&review.room) else { return Ok(()) };
        let detail = [outcome, format!("review {}", review.id)].join(" ").trim_start().to_owned();
        let row = AuditRow {
            at_ms: self.records.hub.now_ms(),
            actor: by,
            action: action.into(),
            user: UserId::parse(&review.user).ok(),
            seq: review.seq,
            reason: shortened(reason),
            detail,
        };
        let once = Some(OnceKey { service: CARRIER.into(), key: format!("{}.{step}", review.id), digest: 0 });
        let call = Call { actor: Actor::service(CARRIER), once };
        let write = Ask::Write(Box::new(Write::Audit { room, row }));
        answers::ask(&self.records.hub, call, write).await.map(drop)
    }

    /// The message that is reported, as it is now and as the reporter may see it.
    async fn message(&self, actor: &Actor, room: Option<&RoomId>, seq: u64) -> Result<Option<Message>, Status> {
        let Some(room) = room else {
            return if seq == 0 { Ok(None) } else { Err(bad_field("room", "a message is one of a room")) };
        };
        if seq == 0 {
            self.records.hub.may(actor, room, Action::Moderate).await.map_err(|error| refused(&error))?;
            return Ok(None);
        }
        let found = self.records.hub.entry_of(actor, room, seq).await.map_err(|error| refused(&error))?;
        if found.change.is_some() || found.deleted.is_some() {
            return Err(refused(&Error::permanent(ErrorCode::NotFound, "no such message")));
        }
        Ok(Some(found))
    }

    async fn moderates(&self, actor: &Actor, room: &RoomId) -> Result<(), Status> {
        match self.records.hub.may(actor, room, Action::Moderate).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(forbidden("only moderators of this room may do this")),
            Err(error) => Err(refused(&error)),
        }
    }

    /// Whether the actor decides such reviews: a moderator of the room, a service everywhere.
    async fn may_moderate(&self, review: &Review, actor: &Actor) -> Result<(), Status> {
        match (actor, RoomId::parse(&review.room)) {
            (Actor::Service(_), _) => Ok(()),
            (Actor::User(_), Ok(room)) => self.moderates(actor, &room).await,
            (Actor::User(user), Err(_)) if reviews::shown_to(review.clone(), user.as_str()).is_some() => {
                Err(forbidden("what is in no room is decided by the platform"))
            }
            (Actor::User(_), Err(_)) => Err(no_review()),
        }
    }

    /// Carries out a review's pending decision, whoever began it. What is refused is not decided; without an answer it
    /// stays pending.
    async fn carry_out(&self, row: ReviewRow, used: Option<Used>) -> Result<Review, Status> {
        let id = row.review.id.clone();
        let Some(decision) = row.pending.clone() else { return Ok(row.review) };
        if let Some(deed) = reviews::deed(&row.review, &decision)
            && let Err(status) = self.perform(&row.review, &decision, deed).await
        {
            if status.code() != Code::Unavailable {
                let open = ReviewRow { review: next(row.review), pending: None, ..row };
                self.records.keep_review(&open, None).await?;
            }
            return Err(status);
        }
        let decider = UserId::parse(&decision.decided_by).at("decision.decided_by")?;
        let outcome = decision.outcome().as_str_name().trim_start_matches("OUTCOME_").to_lowercase();
        let step = format!("{}.audit", row.review.revision);
        self.audit(&row.review, &step, decider, "decide_review", &decision.statement, outcome).await?;
        // About a user there may be another report after this one; a message is reported once.
        let report = if row.review.seq == 0 { String::new() } else { row.report };
        let review = next(reviews::decided(row.review, decision));
        let done = ReviewRow { review, report, pending: None };
        if self.records.keep_review(&done, used.as_ref()).await? {
            return Ok(done.review);
        }
        // Somebody else has carried it out at the same time.
        let kept = self.found(&id).await?;
        if kept.pending.is_none() && kept.review.decisions == done.review.decisions {
            Ok(kept.review)
        } else {
            Err(busy())
        }
    }

    /// The ledger decides whether the decider may, and does it once.
    async fn perform(&self, review: &Review, decision: &Decision, deed: Deed) -> Result<(), Status> {
        let room = RoomId::parse(&review.room).at("room")?;
        let decider = UserId::parse(&decision.decided_by).at("decision.decided_by")?;
        let actor = if Actor::is_service_id(&decider) { Actor::Service(decider) } else { Actor::User(decider) };
        let reason = shortened(&decision.statement);
        let key = format!("{}.{}", review.id, review.revision);
        let hub = &self.records.hub;
        match deed {
            Deed::Delete => {
                let content = check::deleted(review.seq, reason).at("decision.statement")?;
                let append = Ask::Append { room, cmid: Cmid::parse(&key).at("id")?, content };
                match answers::ask(hub, Caller::call(actor), append).await {
                    // It is gone already.
                    Err(status) if status.code() == Code::FailedPrecondition => Ok(()),
                    answer => answer.map(|_| ()),
                }
            }
            Deed::Moderate(sanction) => {
                let user = UserId::parse(&review.user).at("user")?;
                let (seconds, at_ms) = (decision.seconds, hub.now_ms());
                let write = Write::Moderate { room, actor: actor.clone(), user, sanction, reason, seconds, at_ms };
                let once = Some(OnceKey { service: CARRIER.into(), key, digest: 0 });
                let lifts = matches!(sanction, Sanction::Unmute | Sanction::Unban);
                match answers::ask(hub, Call { actor, once }, Ask::Write(Box::new(write))).await {
                    // It was lifted already, or is over.
                    Err(status) if lifts && status.code() == Code::NotFound => Ok(()),
                    answer => answer.map(|_| ()),
                }
            }
        }
    }
}

fn next(review: Review) -> Review {
    Review { revision: review.revision + 1, ..review }
}

/// A service sees all of a review.
fn as_seen_by(review: Review, actor: &Actor) -> Option<Review> {
    match actor {
        Actor::Service(_) => Some(review),
        Actor::User(user) => reviews::shown_to(review, user.as_str()),
    }
}

/// As moderators see it; one whom it is about sees no more of it than anybody else.
fn as_moderated_by(review: Review, actor: &Actor) -> Review {
    match actor {
        Actor::User(user) if user.as_str() == review.user => {
            reviews::shown_to(review, user.as_str()).unwrap_or_default()
        }
        Actor::User(_) | Actor::Service(_) => review,
    }
}

/// Who reported what: nobody reports the same twice. A room that was restored counts its messages anew.
fn report(review: &Review) -> String {
    if review.reporter.is_empty() {
        return String::new();
    }
    let epoch = review.message.as_ref().map_or(0, |message| message.epoch);
    format!("{}\n{}\n{epoch}\n{}\n{}", review.reporter, review.room, review.seq, review.user)
}

fn source(actor: &Actor, asked: ReviewSource) -> Result<ReviewSource, Status> {
    match (actor, asked) {
        (Actor::User(_), ReviewSource::Unspecified | ReviewSource::Report) => Ok(ReviewSource::Report),
        (Actor::Service(_), ReviewSource::Unspecified | ReviewSource::Service) => Ok(ReviewSource::Service),
        (Actor::Service(_), ReviewSource::Classifier) => Ok(ReviewSource::Classifier),
        (Actor::User(_), ReviewSource::Classifier | ReviewSource::Service) => {
            Err(bad_field("source", "what a user reports is a report"))
        }
        (Actor::Service(_), ReviewSource::Report) => Err(bad_field("source", "a report has an actor")),
    }
}

/// Whom it is about: the message's author, or who is named.
fn about(actor: &Actor, message: Option<&Message>, named: Option<UserId>) -> Result<UserId, Status> {
    let user = match (message, named) {
        (None, None) => return Err(bad_field("user", "name a message or a user")),
        (None, Some(user)) => user,
        (Some(message), named) => {
            let author = UserId::parse(&message.author).at("seq")?;
            if Actor::is_service_id(&author) {
                return Err(bad_field("seq", "what a service says is not reviewed"));
            }
            if named.is_some_and(|named| named != author) {
                return Err(bad_field("user", "the message's author, or empty"));
            }
            author
        }
    };
    if actor.user() == Some(&user) { Err(bad_field("user", "nobody reports themselves")) } else { Ok(user) }
}

fn check_scores(scores: &[Score]) -> Result<(), Status> {
    if scores.len() > SCORES_MAX {
        return Err(bad_field("scores", format!("at most {SCORES_MAX}")));
    }
    for score in scores {
        check::line("a label", &score.label, LABEL_BYTES_MAX).at("scores.label")?;
        if score.label.is_empty() || !(0.0..=1.0).contains(&score.value) {
            return Err(bad_field("scores", "a score has a label, and a value from 0 to 1"));
        }
    }
    Ok(())
}

/// What the statement is to the audit log, whose reasons are shorter.
fn shortened(statement: &str) -> String {
    let mut end = statement.len().min(wire::REASON_BYTES_MAX);
    while !statement.is_char_boundary(end) {
        end -= 1;
    }
    statement[..end].to_owned()
}

fn said(no: No) -> Status {
    match no {
        No::WrongState(sentence) => because(Code::FailedPrecondition, Reason::WrongState, sentence),
        No::Forbidden(sentence) => forbidden(sentence),
        No::Changed => {
            because(Code::Aborted, Reason::RevisionConflict, "this review was changed since it was looked at")
        }
        No::Invalid(field, error) => at_field(field, &error),
    }
}

fn forbidden(sentence: &str) -> Status {
    refused(&Error::permanent(ErrorCode::PermissionDenied, sentence))
}

fn no_review() -> Status {
    refused(&Error::permanent(ErrorCode::NotFound, "no such review"))
}
