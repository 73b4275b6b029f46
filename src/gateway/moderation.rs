//! Sanctions and the audit log; reviews are in `reviews.rs`.

use tonic::{Code, Request, Response, Status};
use veza_engine::Ask;
use veza_engine::check;
use veza_engine::ledger::Write;
use veza_proto::gateway::v1::*;
use veza_proto::limits as wire;
use veza_proto::v1::{Membership, Sanction};

use super::answers::{self, replied};
use super::caller::Caller;
use super::fields::{self, At};
use super::reviews::ReviewCalls;
use super::status::{bad_field, because};
use super::{pages, rooms};
use crate::hub::Hub;
use crate::rpc::moderation_server::Moderation;

/// Serves `veza.gateway.v1.Moderation`.
pub(super) struct ModerationCalls {
    pub(super) hub: Hub,
    pub(super) reviews: ReviewCalls,
}

type Answered<T> = Result<Response<T>, Status>;

/// One sanction is asked for like another.
macro_rules! sanction {
    ($self:ident, $request:ident, $method:literal, $sanction:expr, $seconds:expr, $response:ident) => {{
        let (caller, asked) = Caller::take($request)?;
        let seconds = ($seconds)(&asked);
        let actor = caller.actor(&asked.actor)?;
        let call = caller.once(actor, $method, &asked.idempotency_key, &asked)?;
        let member = $self.moderate(call, &asked.room, &asked.user, $sanction, asked.reason, seconds).await?;
        Ok(Response::new($response { member: Some(member) }))
    }};
}

#[tonic::async_trait]
impl Moderation for ModerationCalls {
    async fn mute(&self, request: Request<MuteRequest>) -> Answered<MuteResponse> {
        sanction!(self, request, "Mute", Sanction::Mute, |asked: &MuteRequest| asked.seconds, MuteResponse)
    }

    async fn unmute(&self, request: Request<UnmuteRequest>) -> Answered<UnmuteResponse> {
        sanction!(self, request, "Unmute", Sanction::Unmute, |_: &UnmuteRequest| 0, UnmuteResponse)
    }

    async fn ban(&self, request: Request<BanRequest>) -> Answered<BanResponse> {
        sanction!(self, request, "Ban", Sanction::Ban, |asked: &BanRequest| asked.seconds, BanResponse)
    }

    async fn unban(&self, request: Request<UnbanRequest>) -> Answered<UnbanResponse> {
        sanction!(self, request, "Unban", Sanction::Unban, |_: &UnbanRequest| 0, UnbanResponse)
    }

    async fn kick(&self, request: Request<KickRequest>) -> Answered<KickResponse> {
        sanction!(self, request, "Kick", Sanction::Kick, |asked: &KickRequest| asked.seconds, KickResponse)
    }

    async fn set_slow_mode(&self, request: Request<SetSlowModeRequest>) -> Answered<SetSlowModeResponse> {
        let (caller, asked) = Caller::take(request)?;
        let (room, update) = (fields::room("room", &asked.room)?, rooms::slow_mode(asked.seconds)?);
        let actor = caller.actor(&asked.actor)?;
        let call = caller.once(actor.clone(), "SetSlowMode", &asked.idempotency_key, &asked)?;
        let write = Write::UpdateRoom { room, actor, update, at_ms: self.hub.now_ms() };
        let updated = answers::reply(&self.hub, call, Ask::Write(Box::new(write))).await?;
        Ok(Response::new(SetSlowModeResponse { room: replied!(updated, RoomUpdated).room }))
    }

    async fn list_audit(&self, request: Request<ListAuditRequest>) -> Answered<ListAuditResponse> {
        let (caller, asked) = Caller::take(request)?;
        let room = fields::room("room", &asked.room)?;
        let limit = pages::size(asked.page_size, wire::HISTORY_PAGE_DEFAULT, wire::HISTORY_PAGE_MAX);
        let before = pages::number("audit", &asked.page_token)?.unwrap_or(u64::MAX);
        let call = Caller::call(caller.actor(&asked.actor)?);
        let list = answers::reply(&self.hub, call, Ask::ListAudit { room, before, limit }).await?;
        let list = replied!(list, AuditList);
        let next_page_token = pages::number_token("audit", list.next);
        Ok(Response::new(ListAuditResponse { entries: list.entries, next_page_token }))
    }

    async fn file_review(&self, request: Request<FileReviewRequest>) -> Answered<FileReviewResponse> {
        self.reviews.file(request).await
    }

    async fn list_reviews(&self, request: Request<ListReviewsRequest>) -> Answered<ListReviewsResponse> {
        self.reviews.list(request).await
    }

    async fn get_review(&self, request: Request<GetReviewRequest>) -> Answered<GetReviewResponse> {
        self.reviews.get(request).await
    }

    async fn decide(&self, request: Request<DecideRequest>) -> Answered<DecideResponse> {
        self.reviews.decide(request).await
    }

    async fn appeal(&self, request: Request<AppealRequest>) -> Answered<AppealResponse> {
        self.reviews.appeal(request).await
    }

    async fn verify_report(&self, _: Request<VerifyReportRequest>) -> Answered<VerifyReportResponse> {
        Err(because(Code::Unimplemented, Reason::EncryptionMissing, "this server has no end-to-end encryption"))
    }
}

impl ModerationCalls {
    async fn moderate(
        &self,
        call: crate::hub::Call,
        room: &str,
        user: &str,
        sanction: Sanction,
        reason: String,
        seconds: u64,
    ) -> Result<Membership, Status> {
        let (room, user) = (fields::room("room", room)?, fields::user("user", user)?);
        check::text("reason", &reason, wire::REASON_BYTES_MAX).at("reason")?;
        if seconds > wire::SANCTION_SECONDS_MAX {
            return Err(bad_field("seconds", format!("at most {}, 0 for no end", wire::SANCTION_SECONDS_MAX)));
        }
        let (actor, at_ms) = (call.actor.clone(), self.hub.now_ms());
        let write = Write::Moderate { room, actor, user, sanction, reason, seconds, at_ms };
        let updated = answers::reply(&self.hub, call, Ask::Write(Box::new(write))).await?;
        replied!(updated, MemberUpdated).member.ok_or_else(answers::mistaken)
    }
}
