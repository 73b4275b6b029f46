//! Every call about tokens and devices, once as it is meant and as it is not.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;
use veza_client::proto::gateway::v1::*;
use veza_client::proto::v1::{Action, CreateRoom, Hello, Role, RoomKind, Sanction};

use super::platform::Backend;
use crate::carrier::{Carrier, SOON, Stage, ask};
use crate::server::Start;

/// The field that a refusal names.
fn field(refused: &Status) -> String {
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    refused.get_details_bad_request().unwrap().field_violations[0].field.clone()
}

fn why(refused: &Status) -> String {
    refused.get_details_error_info().unwrap().reason.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minted_token_says_what_was_asked_and_is_found_valid() {
    let stage = Stage::new(Backend::start().run(), Carrier::Quic).await;
    let mut backend = Backend::of(&stage.process).await;
    let asked = |seconds: u32, device: &str, entitlements: Vec<String>| MintConnectTokenRequest {
        user: "42".into(),
        seconds,
        device: device.into(),
        entitlements,
    };
    let good = asked(600, "phone", vec!["gold".into()]);
    let minted = backend.auth.mint_connect_token(good).await.unwrap().into_inner();
    let validate = ValidateTokenRequest { token: minted.token.clone() };
    let found = backend.auth.validate_token(validate).await.unwrap().into_inner();
    let token = found.token.unwrap();
    assert!(found.valid && found.reason.is_empty());
    assert_eq!((token.user.as_str(), token.device.as_str(), token.entitlements), ("42", "phone", vec!["gold".into()]));
    assert_eq!((token.token_id, token.expires_ms), (minted.token_id, minted.expires_ms));
    assert_eq!(token.expires_ms - token.issued_ms, 600_000);
    stage.try_hello(Hello { token: minted.token, ..Hello::default() }).await.unwrap();

    for (wrong, named) in [
        (asked(9, "", vec![]), "seconds"),
        (asked(3_601, "", vec![]), "seconds"),
        (asked(0, "My Phone", vec![]), "device"),
        (asked(0, &"d".repeat(65), vec![]), "device"),
        (asked(0, "", vec!["e".into(); 33]), "entitlements"),
        (asked(0, "", vec!["e".repeat(65)]), "entitlements"),
        (MintConnectTokenRequest::default(), "user"),
        (MintConnectTokenRequest { user: "service:gateway".into(), ..Default::default() }, "user"),
    ] {
        assert_eq!(field(&backend.auth.mint_connect_token(wrong).await.unwrap_err()), named);
    }
    for right in [asked(10, &"d".repeat(64), vec!["e".repeat(64); 32]), asked(3_600, "", vec![])] {
        backend.auth.mint_connect_token(right).await.unwrap();
    }
    for (token, reason) in [("", "invalid"), ("no token", "invalid"), (&"x".repeat(9_000), "invalid")] {
        let token = token.to_owned();
        let found = backend.auth.validate_token(ValidateTokenRequest { token }).await.unwrap().into_inner();
        assert_eq!((found.valid, found.token, found.reason.as_str()), (false, None, reason));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_public_keys_only_mints_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let public = dir.path().join("public.pem");
    // The key of RFC 8410, section 10.1.
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    std::fs::write(&public, pem).unwrap();
    let stage = Stage::new(Backend::start().variable("AUTH_KEY_FILE", public.display()).run(), Carrier::Quic).await;
    let mut backend = Backend::of(&stage.process).await;
    let asked = MintConnectTokenRequest { user: "42".into(), ..Default::default() };
    let refused = backend.auth.mint_connect_token(asked).await.unwrap_err();
    assert_eq!((refused.code(), why(&refused).as_str()), (Code::FailedPrecondition, "WRONG_STATE"));
    let keys = backend.auth.get_keys(GetKeysRequest {}).await.unwrap().into_inner();
    assert!(keys.jwks.contains("\"kty\":\"OKP\"") && keys.max_age_seconds > 0, "{keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_is_told_as_the_room_would_decide() {
    let stage = Stage::new(Backend::start().run(), Carrier::Quic).await;
    let mut backend = Backend::of(&stage.process).await;
    let [alice, bob] = stage.in_room("garden", ["alice", "bob"]).await;
    let den = CreateRoom { room: "den".into(), kind: RoomKind::Private.into(), ..CreateRoom::default() };
    alice.create(den).await.unwrap();
    let mut may = async |user: &str, room: &str, action: Action| {
        let (user, room, action) = (user.into(), room.into(), action.into());
        let asked = CheckPermissionRequest { user, room, action, entitlements: Vec::new() };
        backend.auth.check_permission(asked).await.map(tonic::Response::into_inner)
    };
    let owner = may("alice", "garden", Action::Manage).await.unwrap();
    assert!(owner.allowed && owner.reason.is_empty());
    assert_eq!((owner.role(), owner.at_least()), (Role::Owner, Role::Admin));
    let member = may("bob", "garden", Action::Manage).await.unwrap();
    assert_eq!((member.allowed, member.role(), member.reason.as_str()), (false, Role::Member, "PERMISSION_DENIED"));
    assert!(may("bob", "garden", Action::Publish).await.unwrap().allowed);
    let unknown = may("bob", "nowhere", Action::Publish).await.unwrap();
    assert_eq!(unknown.reason, "NOT_FOUND");
    let private = may("bob", "den", Action::Publish).await.unwrap();
    assert_eq!((private.role(), private.reason.as_str()), (Role::Unspecified, "NOT_FOUND"));
    ask!(alice, Moderate { room: "garden", user: "bob", sanction: Sanction::Mute, seconds: 600u64 } => MemberUpdated)
        .unwrap();
    let muted = may("bob", "garden", Action::Publish).await.unwrap();
    assert_eq!((muted.allowed, muted.reason.as_str()), (false, "MUTED"));
    assert!((1..=600_000).contains(&muted.retry_after_ms), "{muted:?}");
    assert_eq!(field(&may("bob", "garden", Action::Unspecified).await.unwrap_err()), "action");
    assert_eq!(field(&may("", "garden", Action::Publish).await.unwrap_err()), "user");
    assert_eq!(field(&may("bob", "The Garden", Action::Publish).await.unwrap_err()), "room");
    drop(bob);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_seen_listed_and_revoked() {
    let stage = Stage::new(Backend::start().run(), Carrier::WebSocketProto).await;
    let mut backend = Backend::of(&stage.process).await;
    let mut held = Vec::new();
    for device in ["laptop", "phone", "watch"] {
        let (token, _) = backend.mint("bob", device).await;
        let hello = Hello { token, client: format!("app on {device}"), ..Hello::default() };
        held.push(stage.try_hello(hello).await.unwrap());
    }
    let list = |page_token: String, page_size: u32, include_revoked: bool| ListDevicesRequest {
        user: "bob".into(),
        page_size,
        page_token,
        include_revoked,
    };
    let first = backend.devices.list_devices(list(String::new(), 2, false)).await.unwrap().into_inner();
    let ids = |list: &ListDevicesResponse| list.devices.iter().map(|device| device.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&first), ["laptop", "phone"]);
    let device = &first.devices[0];
    assert_eq!((device.user.as_str(), device.client.as_str(), device.connected), ("bob", "app on laptop", true));
    assert!(device.first_seen_ms > 0 && device.last_seen_ms >= device.first_seen_ms && device.revoked_ms == 0);
    let rest = list(first.next_page_token.clone(), 2, false);
    let rest = backend.devices.list_devices(rest).await.unwrap().into_inner();
    assert_eq!((ids(&rest), rest.next_page_token.as_str()), (vec!["watch".into()], ""));

    let phone = RevokeUserDeviceRequest { user: "bob".into(), device: "phone".into(), ..Default::default() };
    let revoked = backend.devices.revoke_user_device(phone.clone()).await.unwrap().into_inner().device.unwrap();
    assert!(revoked.revoked_ms > 0, "{revoked:?}");
    assert_eq!(held.remove(1).end().await.code, Some(veza_client::proto::CloseCode::Revoked));
    let left = backend.devices.list_devices(list(String::new(), 0, false)).await.unwrap().into_inner();
    assert_eq!(ids(&left), ["laptop", "watch"]);
    let all = backend.devices.list_devices(list(String::new(), 0, true)).await.unwrap().into_inner();
    assert_eq!(all.devices.iter().map(|device| device.revoked_ms > 0).collect::<Vec<_>>(), [false, true, false]);
    let info = GetUserInfoRequest { user: "bob".into() };
    let info = backend.auth.get_user_info(info).await.unwrap().into_inner();
    assert_eq!((info.devices, info.sessions.len(), info.revoked_before_ms), (2, 2, 0));

    let unseen = RevokeUserDeviceRequest { device: "fridge".into(), ..phone.clone() };
    assert_eq!(backend.devices.revoke_user_device(unseen).await.unwrap_err().code(), Code::NotFound);
    for (wrong, named) in [
        (RevokeUserDeviceRequest { device: String::new(), ..phone.clone() }, "device"),
        (RevokeUserDeviceRequest { reason: "r".repeat(513), ..phone.clone() }, "reason"),
        (RevokeUserDeviceRequest { idempotency_key: "k".repeat(65), ..phone.clone() }, "idempotency_key"),
    ] {
        assert_eq!(field(&backend.devices.revoke_user_device(wrong).await.unwrap_err()), named);
    }
    let page = list("no token of ours".into(), 2, false);
    assert_eq!(why(&backend.devices.list_devices(page).await.unwrap_err()), "PAGE_TOKEN");
    let counts = GetKeyPackageCountsRequest { user: "bob".into() };
    let refused = backend.devices.get_key_package_counts(counts).await.unwrap_err();
    assert_eq!((refused.code(), why(&refused).as_str()), (Code::Unimplemented, "ENCRYPTION_MISSING"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_remembered_over_a_restart() {
    let mut stage = Stage::new(Backend::start().run(), Carrier::Quic).await;
    let mut backend = Backend::of(&stage.process).await;
    let (token, _) = backend.mint("bob", "phone").await;
    let bob = stage.try_hello(Hello { token, client: "app/1".into(), ..Hello::default() }).await.unwrap();
    bob.connection.bye().await;
    let (kept, data) = (stage.process.keep_data(), stage.process.data.clone());
    assert_eq!(stage.process.stop(), Some(0), "what was seen is stored at the end");
    stage = Stage::new(Backend::start().data(&data).run(), Carrier::Quic).await;
    let mut backend = Backend::of(&stage.process).await;
    let list = ListDevicesRequest { user: "bob".into(), ..Default::default() };
    let devices = backend.devices.list_devices(list).await.unwrap().into_inner().devices;
    assert_eq!(devices.len(), 1);
    assert_eq!((devices[0].client.as_str(), devices[0].connected), ("app/1", false));
    drop(kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_is_refused_when_it_cannot_be_meant() {
    let stage = Stage::new(Backend::start().run(), Carrier::Quic).await;
    let mut backend = Backend::of(&stage.process).await;
    let of = |which: Option<revoke_token_request::Which>| RevokeTokenRequest { which, ..Default::default() };
    let id = |id: &str| Some(revoke_token_request::Which::TokenId(id.into()));
    let token = |token: &str| Some(revoke_token_request::Which::Token(token.into()));
    for (wrong, named) in [
        (of(None), "token"),
        (of(id("")), "token_id"),
        (of(id(&"t".repeat(129))), "token_id"),
        (of(id("line\nbreak")), "token_id"),
        (of(token("no token")), "token"),
        (of(token(&"x".repeat(9_000))), "token"),
        (RevokeTokenRequest { expires_ms: u64::MAX, ..of(id("t")) }, "expires_ms"),
        (RevokeTokenRequest { reason: "r".repeat(513), ..of(id("t")) }, "reason"),
    ] {
        assert_eq!(field(&backend.auth.revoke_token(wrong).await.unwrap_err()), named);
    }
    backend.auth.revoke_token(of(id(&"t".repeat(128)))).await.unwrap();
    let (minted, _) = backend.mint("bob", "").await;
    for _ in 0..2 {
        backend.auth.revoke_token(of(token(&minted))).await.unwrap();
    }
    let found = backend.auth.validate_token(ValidateTokenRequest { token: minted }).await.unwrap().into_inner();
    assert_eq!((found.valid, found.reason.as_str()), (false, "revoked"));

    let user = |issued_before_ms: u64| RevokeUserRequest { user: "bob".into(), issued_before_ms, ..Default::default() };
    assert_eq!(field(&backend.auth.revoke_user(user(u64::MAX)).await.unwrap_err()), "issued_before_ms");
    assert_eq!(field(&backend.auth.revoke_user(RevokeUserRequest::default()).await.unwrap_err()), "user");
    let device = RevokeDeviceRequest { user: "bob".into(), device: "My Phone".into(), ..Default::default() };
    assert_eq!(field(&backend.auth.revoke_device(device).await.unwrap_err()), "device");
    // What was issued since is not meant.
    let (minted, _) = backend.mint("bob", "").await;
    let validate = ValidateTokenRequest { token: minted };
    let issued_ms = backend.auth.validate_token(validate.clone()).await.unwrap().into_inner().token.unwrap().issued_ms;
    backend.auth.revoke_user(user(issued_ms)).await.unwrap();
    assert!(backend.auth.validate_token(validate.clone()).await.unwrap().into_inner().valid);
    let info = GetUserInfoRequest { user: "bob".into() };
    assert_eq!(backend.auth.get_user_info(info).await.unwrap().into_inner().revoked_before_ms, issued_ms);
    backend.auth.revoke_user(user(issued_ms + 1)).await.unwrap();
    assert!(!backend.auth.validate_token(validate).await.unwrap().into_inner().valid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_comes_back_with_a_token_that_is_younger_than_the_revocation() {
    let stage = Stage::new(Backend::start().run(), Carrier::Quic).await;
    let mut backend = Backend::of(&stage.process).await;
    let (old, _) = backend.mint("bob", "").await;
    backend.auth.revoke_user(RevokeUserRequest { user: "bob".into(), ..Default::default() }).await.unwrap();
    // A token says when it was issued to the second.
    let begun = std::time::Instant::now();
    loop {
        let (fresh, _) = backend.mint("bob", "").await;
        let valid = backend.auth.validate_token(ValidateTokenRequest { token: fresh.clone() }).await.unwrap();
        if valid.into_inner().valid {
            stage.try_hello(Hello { token: fresh, ..Hello::default() }).await.unwrap();
            break;
        }
        assert!(begun.elapsed() < SOON, "nobody comes back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(stage.try_hello(Hello { token: old, ..Hello::default() }).await.is_err());
}

#[test]
fn the_command_line_makes_a_token_for_a_device() {
    let dir = tempfile::tempdir().unwrap();
    let start = Start::new().data(dir.path());
    let made = start.output(&["token", "--user", "bob", "--device", "phone"]);
    assert!(made.status.success(), "{made:?}");
    let token = String::from_utf8(made.stdout).unwrap();
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
    assert!(String::from_utf8(claims).unwrap().contains(r#""device":"phone""#));
    assert!(!start.output(&["token", "--user", "bob", "--device", "My Phone"]).status.success());
}
