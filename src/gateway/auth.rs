//! Tokens: whether they hold, what they allow, their revocation, and new ones.

use std::time::Duration;

use tonic::{Code, Request, Response, Status};
use veza_engine::Timestamp;
use veza_engine::ledger::Permission;
use veza_proto::UserId;
use veza_proto::gateway::v1::{
    CheckPermissionRequest, CheckPermissionResponse, GetKeysRequest, GetKeysResponse, GetUserInfoRequest,
    GetUserInfoResponse, MintConnectTokenRequest, MintConnectTokenResponse, Reason, RevokeDeviceRequest,
    RevokeDeviceResponse, RevokeTokenRequest, RevokeTokenResponse, RevokeUserRequest, RevokeUserResponse, SessionInfo,
    TokenInfo, ValidateTokenRequest, ValidateTokenResponse, revoke_token_request::Which,
};
use veza_proto::limits::TOKEN_BYTES_MAX;
use veza_proto::v1::{Action, Error, ErrorCode, Role};

use super::caller::Caller;
use super::fields;
use super::status::{bad_field, because};
use super::trust::{self, Trust, count, failed, not_revoked};
use crate::auth::{Grant, Identity, Rejected, TOKEN_LIFE_MAX};
use crate::rpc::auth_server::Auth;
use crate::session::registry::Seat;
use crate::store::Rooms;
use crate::store::records::Subject;

/// How long a minted token holds when nobody says, at least, and at most.
const MINTED_SECONDS_DEFAULT: u32 = 300;
const MINTED_SECONDS_MIN: u32 = 10;
const MINTED_SECONDS_MAX: u32 = 3_600;
/// A token of which only the id is known is taken to have ended after this.
const TOKEN_ENDS_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// A `jti`, bytes.
const TOKEN_ID_BYTES_MAX: usize = 128;
/// The platform's clock may be ahead of ours.
const SKEW: Duration = Duration::from_secs(60);
/// After this long it is worth looking for other keys.
const KEYS_MAX_AGE_SECONDS: u32 = 60;
/// Rooms of a user, read at a time while they are counted.
const ROOMS_PAGE: u32 = 1_000;

/// Serves `veza.gateway.v1.Auth`.
pub(super) struct AuthCalls {
    pub(super) trust: Trust,
}

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Auth for AuthCalls {
    async fn validate_token(&self, request: Request<ValidateTokenRequest>) -> Answered<ValidateTokenResponse> {
        let asked = request.into_inner();
        let verified = self.trust.auth.verify_or_learn(&asked.token, self.trust.now().as_millis()).await;
        Ok(Response::new(match verified {
            Ok(identity) => ValidateTokenResponse { valid: true, token: Some(info(&identity)), reason: String::new() },
            Err(rejected) => {
                // An unknown key is our side of the matter: outside it is a token that is not valid.
                let reason = if rejected == Rejected::UnknownKey { "invalid" } else { rejected.label() };
                ValidateTokenResponse { valid: false, token: None, reason: reason.to_owned() }
            }
        }))
    }

    async fn get_user_info(&self, request: Request<GetUserInfoRequest>) -> Answered<GetUserInfoResponse> {
        let user = fields::user("user", &request.into_inner().user)?;
        let devices = self.trust.devices_of(&user, None).await?;
        let devices = devices.iter().filter(|row| self.trust.revoked_ms(&user, row) == 0).count();
        let now_ms = self.trust.now().as_millis();
        let revoked = self.trust.auth.revoked_until(&Subject::User(user.clone()), now_ms);
        let seats = self.trust.registry.of_user(&user);
        let rooms = self.rooms_of(&user).await?;
        Ok(Response::new(GetUserInfoResponse {
            user: String::from(&user),
            connected: !seats.is_empty(),
            sessions: seats.iter().map(session).collect(),
            rooms,
            devices: count(devices),
            revoked_before_ms: revoked.map_or(0, |revoked_ms| revoked_ms.saturating_add(1)),
        }))
    }

    async fn check_permission(&self, request: Request<CheckPermissionRequest>) -> Answered<CheckPermissionResponse> {
        let asked = request.into_inner();
        let user = fields::user("user", &asked.user)?;
        let room = fields::room("room", &asked.room)?;
        let action = asked.action();
        if action == Action::Unspecified {
            return Err(bad_field("action", "names what is to be done"));
        }
        let entitlements = fields::entitlements(asked.entitlements)?;
        let found = self.trust.store.membership(&room, &user).await.map_err(failed)?;
        let now_ms = self.trust.now().as_millis();
        let permission =
            found.map(|(row, member)| Permission::of(&row, &user, member.as_ref(), &entitlements, action, now_ms));
        Ok(Response::new(permission.map_or_else(unknown_room, allowed)))
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Answered<RevokeTokenResponse> {
        let (caller, asked) = Caller::take(request)?;
        trust::key(&asked.idempotency_key)?;
        trust::reason(&asked.reason)?;
        let (token_id, whose, expires) = match asked.which {
            Some(Which::Token(token)) => match self.identity_of(&token).await? {
                Some(identity) => {
                    let expires = Timestamp::from_millis(identity.expires_ms);
                    let without = "this token has no jti: revoke its device or its user";
                    (identity.token_id.ok_or_else(|| bad_field("token", without))?, Some(identity.user), expires)
                }
                None => return Ok(Response::new(RevokeTokenResponse::default())),
            },
            Some(Which::TokenId(token_id)) => (token_id, None, self.token_end(asked.expires_ms)?),
            None => return Err(bad_field("token", "names a token, or token_id its jti")),
        };
        if !(1..=TOKEN_ID_BYTES_MAX).contains(&token_id.len()) || token_id.chars().any(char::is_control) {
            let why = format!("1 to {TOKEN_ID_BYTES_MAX} bytes without control characters");
            return Err(bad_field("token_id", why));
        }
        let closed = self.trust.revocations.revoke_token(token_id, whose, expires, &caller.itself()).await;
        let sessions_closed = closed.map(count).map_err(|error| not_revoked(&error))?;
        told("token", &asked.reason, sessions_closed);
        Ok(Response::new(RevokeTokenResponse { sessions_closed }))
    }

    async fn revoke_device(&self, request: Request<RevokeDeviceRequest>) -> Answered<RevokeDeviceResponse> {
        let (caller, asked) = Caller::take(request)?;
        trust::key(&asked.idempotency_key)?;
        trust::reason(&asked.reason)?;
        let user = fields::user("user", &asked.user)?;
        let device = trust::device("device", &asked.device)?;
        let sessions_closed = self.trust.revoke_device(user, device, &caller.itself()).await?;
        told("device", &asked.reason, sessions_closed);
        Ok(Response::new(RevokeDeviceResponse { sessions_closed }))
    }

    async fn revoke_user(&self, request: Request<RevokeUserRequest>) -> Answered<RevokeUserResponse> {
        let (caller, asked) = Caller::take(request)?;
        trust::key(&asked.idempotency_key)?;
        trust::reason(&asked.reason)?;
        let user = fields::user("user", &asked.user)?;
        let now = self.trust.now();
        let issued = match asked.issued_before_ms {
            0 => now,
            before_ms if before_ms > (now + SKEW).as_millis() => {
                return Err(bad_field("issued_before_ms", "lies in the future; 0 is now"));
            }
            before_ms => Timestamp::from_millis(before_ms - 1),
        };
        let closed = self.trust.revocations.revoke_issued(Subject::User(user), issued, &caller.itself()).await;
        let sessions_closed = closed.map(count).map_err(|error| not_revoked(&error))?;
        told("user", &asked.reason, sessions_closed);
        Ok(Response::new(RevokeUserResponse { sessions_closed }))
    }

    async fn mint_connect_token(
        &self,
        request: Request<MintConnectTokenRequest>,
    ) -> Answered<MintConnectTokenResponse> {
        let asked = request.into_inner();
        let user = fields::user("user", &asked.user)?;
        let device = match asked.device.as_str() {
            "" => None,
            text => Some(trust::device("device", text)?),
        };
        let entitlements = fields::entitlements(asked.entitlements)?;
        let seconds = if asked.seconds == 0 { MINTED_SECONDS_DEFAULT } else { asked.seconds };
        if !(MINTED_SECONDS_MIN..=MINTED_SECONDS_MAX).contains(&seconds) {
            let why = format!("from {MINTED_SECONDS_MIN} to {MINTED_SECONDS_MAX}, 0 is {MINTED_SECONDS_DEFAULT}");
            return Err(bad_field("seconds", why));
        }
        let ttl = Duration::from_secs(seconds.into());
        let grant = Grant { user, device, entitlements };
        if !self.trust.auth.can_issue() {
            let sentence = "this server has no private key: it checks tokens and makes none";
            return Err(because(Code::FailedPrecondition, Reason::WrongState, sentence));
        }
        let issued = self.trust.auth.issue(&grant, ttl, self.trust.now().as_millis()).map_err(|error| {
            tracing::error!(%error, "a token could not be made");
            Status::internal("the token could not be made")
        })?;
        let (token, token_id, expires_ms) = (issued.token, issued.token_id, issued.expires_ms);
        Ok(Response::new(MintConnectTokenResponse { token, token_id, expires_ms }))
    }

    async fn get_keys(&self, _request: Request<GetKeysRequest>) -> Answered<GetKeysResponse> {
        let jwks = self.trust.auth.public_keys().to_string();
        Ok(Response::new(GetKeysResponse { jwks, max_age_seconds: KEYS_MAX_AGE_SECONDS }))
    }
}

impl AuthCalls {
    /// Whom a token speaks for; `None` for one that is not taken any more anyway.
    async fn identity_of(&self, token: &str) -> Result<Option<Identity>, Status> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(bad_field("token", format!("at most {TOKEN_BYTES_MAX} bytes, this has {}", token.len())));
        }
        match self.trust.auth.verify_or_learn(token, self.trust.now().as_millis()).await {
            Ok(identity) => Ok(Some(identity)),
            Err(Rejected::Expired | Rejected::Revoked) => Ok(None),
            Err(rejected @ (Rejected::Invalid(_) | Rejected::NotYetValid | Rejected::UnknownKey)) => {
                Err(bad_field("token", rejected.sentence()))
            }
        }
    }

    fn token_end(&self, expires_ms: u64) -> Result<Timestamp, Status> {
        let now = self.trust.now();
        if expires_ms > (now + TOKEN_LIFE_MAX + SKEW).as_millis() {
            return Err(bad_field("expires_ms", "no token ends that late: they hold 365 days at most"));
        }
        Ok(if expires_ms == 0 { now + TOKEN_ENDS_AFTER } else { Timestamp::from_millis(expires_ms) })
    }

    async fn rooms_of(&self, user: &UserId) -> Result<u32, Status> {
        let (mut rooms, mut after) = (0, None::<String>);
        loop {
            let page = self.trust.store.rooms(user, Rooms::Mine, after.as_deref(), ROOMS_PAGE).await.map_err(failed)?;
            rooms += page.len();
            match page.last() {
                Some((row, _)) if page.len() == ROOMS_PAGE as usize => after = Some(String::from(&row.id)),
                Some(_) | None => return Ok(count(rooms)),
            }
        }
    }
}

/// For whoever reads the log; users and reasons are not for everybody's eyes.
fn told(kind: &'static str, reason: &str, sessions_closed: u32) {
    tracing::info!(kind, sessions_closed, "a revocation by the platform");
    tracing::debug!(kind, reason = %reason.escape_debug(), "the reason of a revocation");
}

fn info(identity: &Identity) -> TokenInfo {
    TokenInfo {
        user: String::from(&identity.user),
        expires_ms: identity.expires_ms,
        issued_ms: identity.issued_ms.unwrap_or(0),
        token_id: identity.token_id.clone().unwrap_or_default(),
        device: identity.device.as_ref().map(String::from).unwrap_or_default(),
        entitlements: identity.entitlements.clone(),
    }
}

fn session(seat: &Seat) -> SessionInfo {
    SessionInfo {
        session: seat.id.iter().map(|byte| format!("{byte:02x}")).collect(),
        device: seat.holder.identity.device.as_ref().map(String::from).unwrap_or_default(),
        transport: seat.holder.transport.to_owned(),
        since_ms: seat.holder.since_ms,
        client: seat.holder.client.to_string(),
    }
}

/// A room that is not there and one that is nobody's business look the same.
fn unknown_room() -> CheckPermissionResponse {
    CheckPermissionResponse { reason: named(ErrorCode::NotFound), ..CheckPermissionResponse::default() }
}

fn allowed(permission: Permission) -> CheckPermissionResponse {
    let Permission { role, at_least, refused } = permission;
    let error: Option<Error> = refused.map(|refusal| refusal.to_error());
    CheckPermissionResponse {
        allowed: error.is_none(),
        role: role.unwrap_or(Role::Unspecified).into(),
        at_least: at_least.into(),
        reason: error.as_ref().map(|error| named(error.code())).unwrap_or_default(),
        retry_after_ms: error.map_or(0, |error| u64::from(error.retry_after_ms)),
    }
}

fn named(code: ErrorCode) -> String {
    code.as_str_name().trim_start_matches("ERROR_CODE_").to_owned()
}
