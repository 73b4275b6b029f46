//! Webhooks as their receivers meet them: signed, in order, again after a failure, whoever dies meanwhile.

mod addresses;
mod calls;
mod deaths;
mod receiver;

use std::collections::BTreeMap;

use tonic::Status;
use veza_client::proto::gateway::v1::event::Kind;
use veza_client::proto::gateway::v1::*;

use self::receiver::{Heard, Receiver, Reply};
use super::{Backend, refusal, stage_of};
use crate::carrier::Stage;
use crate::server::Start;

/// Lets webhooks lead to receivers on this machine.
fn at_home() -> Start {
    Start::new().talkative().variable("WEBHOOKS_ALLOW_PRIVATE", true)
}

/// As [`at_home`], where what is not taken at once is put aside.
fn impatient() -> Start {
    at_home().variable("WEBHOOKS_GIVE_UP_SECONDS", 0)
}

impl Backend {
    /// A webhook and its secret.
    async fn webhook(&self, url: &str) -> (Webhook, String) {
        let create = CreateWebhookRequest { url: url.into(), ..Default::default() };
        let made = self.webhooks().create_webhook(create).await.unwrap().into_inner();
        (made.webhook.unwrap(), made.secret)
    }

    /// A webhook for messages alone.
    async fn of_messages(&self, url: &str) -> Webhook {
        let kinds = vec![EventKind::Message.into()];
        let filter = Some(EventFilter { kinds, ..Default::default() });
        let create = CreateWebhookRequest { url: url.into(), filter, ..Default::default() };
        self.webhooks().create_webhook(create).await.unwrap().into_inner().webhook.unwrap()
    }

    async fn stands(&self, id: &str) -> Webhook {
        let asked = GetWebhookRequest { id: id.into() };
        self.webhooks().get_webhook(asked).await.unwrap().into_inner().webhook.unwrap()
    }

    /// Waits until a webhook is as it must be.
    async fn until(&self, id: &str, holds: impl Fn(&Webhook) -> bool) -> Webhook {
        let deadline = tokio::time::Instant::now() + crate::carrier::SOON;
        loop {
            let webhook = self.stands(id).await;
            if holds(&webhook) {
                return webhook;
            }
            assert!(tokio::time::Instant::now() < deadline, "{webhook:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn update(&self, webhook: Webhook, path: &str) -> Result<UpdateWebhookResponse, Status> {
        let update_mask = Some(prost_types::FieldMask { paths: vec![path.into()] });
        let request = UpdateWebhookRequest { webhook: Some(webhook), update_mask, ..Default::default() };
        Ok(self.webhooks().update_webhook(request).await?.into_inner())
    }

    async fn pause(&self, id: &str, paused: bool) {
        self.update(Webhook { id: id.into(), paused, ..Default::default() }, "paused").await.unwrap();
    }

    async fn dead_letters(&self, id: &str) -> Vec<DeadLetter> {
        let asked = ListDeadLettersRequest { id: id.into(), ..Default::default() };
        self.webhooks().list_dead_letters(asked).await.unwrap().into_inner().dead_letters
    }

    async fn replay(&self, id: &str, what: replay_request::What, key: &str) -> Result<u64, Status> {
        let request = ReplayRequest { id: id.into(), what: Some(what), idempotency_key: key.into() };
        Ok(self.webhooks().replay(request).await?.into_inner().count)
    }
}

/// What is told, in a word.
fn what(heard: &Heard) -> String {
    let event = heard.event();
    match event.kind.as_ref().unwrap() {
        Kind::Message(stored) => stored.message.as_ref().unwrap().body.clone(),
        Kind::RoomCreated(_) => "created".into(),
        Kind::MemberJoined(_) => format!("{} joined", event.user),
        other => format!("{other:?}"),
    }
}

fn said(heard: &[Heard]) -> Vec<String> {
    heard.iter().map(what).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_is_delivered_signed_and_in_order() {
    let receiver = Receiver::start(|_, _| Reply::Taken).await;
    let (_stage, backend) = stage_of(at_home()).await;
    backend.room("before", "alice", &[]).await;
    let (made, secret) = backend.webhook(&receiver.url("/veza?x=1")).await;
    assert_eq!((made.id.len(), secret.len(), made.last_outcome.as_str()), (22, 43, ""));
    for room in ["one", "two"] {
        backend.room(room, "alice", &[]).await;
    }
    for nth in 1..=60 {
        let room = if nth % 2 == 0 { "one" } else { "two" };
        backend.say(room, "alice", &format!("k{nth}"), &format!("{nth} ü\u{1}")).await;
    }
    let heard = receiver.heard(64).await;
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for delivery in &heard {
        assert!(delivery.is_signed_by(&secret), "{delivery:?}");
        assert_eq!((delivery.path.as_str(), delivery.content_type.as_str()), ("/veza?x=1", "application/json"));
        let event = delivery.event();
        assert_eq!(delivery.id, format!("{}-{}", made.id, event.position));
        assert!(last.insert(String::new(), event.position) < Some(event.position));
        if let Some(Kind::Message(stored)) = &event.kind {
            let seq = last.entry(event.room.clone()).or_default();
            assert_eq!(stored.message.as_ref().unwrap().seq, *seq + 1, "{}", event.room);
            *seq += 1;
        }
    }
    assert_eq!((last["one"], last["two"]), (30, 30));
    assert_eq!(said(&heard[..2]), ["created", "alice joined"], "what was before is not told");
    // Numbers of 64 bits are strings, names are those of the schema, what is empty is left out.
    let json: serde_json::Value = serde_json::from_slice(&heard[0].body).unwrap();
    assert_eq!(json["position"], heard[0].event().position.to_string());
    assert_eq!(
        (&json["roomCreated"]["room"]["kind"], json.get("user")),
        (&"ROOM_KIND_PUBLIC".into(), Some(&"alice".into()))
    );
    let stands = backend.until(&made.id, |webhook| webhook.position == webhook.head).await;
    assert_eq!((stands.failures, stands.dead_letters, stands.last_outcome.as_str()), (0, 0, "status 204"));
    assert!(stands.last_attempt_ms >= stands.created_ms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_comes_again_before_anything_later() {
    let receiver = Receiver::start(|delivery, nth| match nth {
        0 => Reply::Status(500),
        1 => Reply::Later,
        // From here on another webhook's turn.
        _ if delivery.path == "/other" => Reply::Status(500),
        _ => Reply::Taken,
    })
    .await;
    let (_stage, backend) = stage_of(at_home()).await;
    backend.room("lounge", "alice", &[]).await;
    let made = backend.of_messages(&receiver.url("/")).await;
    for body in ["a", "b"] {
        backend.say("lounge", "alice", body, body).await;
    }
    let heard = receiver.heard(4).await;
    assert_eq!(said(&heard), ["a", "a", "a", "b"]);
    assert!(heard[..3].iter().all(|delivery| delivery.id == heard[0].id) && heard[3].id != heard[0].id);
    let stands = backend.until(&made.id, |webhook| webhook.position == webhook.head).await;
    assert_eq!((stands.failures, stands.dead_letters), (0, 0));
    // One that fails holds up nobody else.
    let other = backend.of_messages(&receiver.url("/other")).await;
    for body in ["c", "d"] {
        backend.say("lounge", "alice", body, body).await;
    }
    let failing = backend.until(&other.id, |webhook| webhook.failures > 0).await;
    assert_eq!((failing.last_outcome.as_str(), failing.position < failing.head), ("status 500", true));
    backend.until(&made.id, |webhook| webhook.position == webhook.head).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_takes_is_put_aside_and_delivered_again_on_demand() {
    let receiver =
        Receiver::start(
            |delivery, _| {
                if what(delivery).starts_with("poison") { Reply::Status(422) } else { Reply::Taken }
            },
        )
        .await;
    let (stage, backend) = stage_of(impatient()).await;
    backend.room("lounge", "alice", &[]).await;
    let made = backend.of_messages(&receiver.url("/")).await;
    for body in ["a", "poison", "b", "poison too", "c"] {
        backend.say("lounge", "alice", body, body).await;
    }
    assert_eq!(said(&receiver.heard(5).await), ["a", "poison", "b", "poison too", "c"]);
    let stands = backend.until(&made.id, |webhook| webhook.position == webhook.head).await;
    assert_eq!((stands.dead_letters, stands.failures), (2, 0));
    let letters = backend.dead_letters(&made.id).await;
    let numbers: Vec<u64> = letters.iter().map(|letter| letter.number).collect();
    assert_eq!((numbers, letters[0].attempts, letters[0].outcome.as_str()), (vec![1, 2], 1, "status 422"));
    assert!(letters[0].first_attempt_ms > 0 && letters[0].last_attempt_ms >= letters[0].first_attempt_ms);
    // It is told as it is by then.
    backend
        .messages()
        .delete(DeleteRequest {
            room: "lounge".into(),
            actor: "alice".into(),
            seq: 2,
            idempotency_key: "gone".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    let again = backend.replay(&made.id, replay_request::What::Number(2), "r1").await;
    assert_eq!(again.unwrap(), 1);
    let heard = receiver.heard(7).await;
    assert_eq!(said(&heard[5..]).iter().filter(|said| *said == "poison too").count(), 1, "{:?}", said(&heard));
    let letters = backend.until_letters(&made.id, |letters| letters[1].attempts == 2).await;
    assert_eq!((letters.len(), letters[1].outcome.as_str()), (2, "status 422"), "it rests again");
    receiver.answer(|_, _| Reply::Taken);
    for _twice in 0..2 {
        let all = backend.replay(&made.id, replay_request::What::DeadLetters(true), "r2").await;
        assert_eq!(all.unwrap(), 2, "under the same key it is the same answer");
    }
    backend.until(&made.id, |webhook| webhook.dead_letters == 0).await;
    let heard = receiver.heard(9).await;
    assert_eq!(
        (heard[7].id.as_str(), heard[8].id.as_str()),
        (heard[1].id.as_str(), heard[3].id.as_str()),
        "oldest first"
    );
    let Some(Kind::Message(told)) = heard[7].event().kind else { panic!("{heard:?}") };
    assert!(told.message.unwrap().deleted.is_some());
    assert_eq!(heard[8].event().position, heard[3].event().position);
    let metrics = crate::server::get(stage.process.metrics, "/metrics", "").body;
    let counted = format!("veza_webhooks_dead_letters_total{{webhook=\"{}\"}} 2", made.id);
    assert!(metrics.contains(&counted), "{counted} in {metrics}");
}

impl Backend {
    async fn until_letters(&self, id: &str, holds: impl Fn(&[DeadLetter]) -> bool) -> Vec<DeadLetter> {
        let deadline = tokio::time::Instant::now() + crate::carrier::SOON;
        loop {
            let letters = self.dead_letters(id).await;
            if holds(&letters) {
                return letters;
            }
            assert!(tokio::time::Instant::now() < deadline, "{letters:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_exchanged_and_no_delivery_is_refused() {
    let receiver = Receiver::start(|_, _| Reply::Taken).await;
    let (Stage { process, .. }, backend) = stage_of(at_home().variable("RUST_LOG", "debug")).await;
    backend.room("lounge", "alice", &[]).await;
    let (made, first) = backend.webhook(&receiver.url("/?pass=word")).await;
    backend.say("lounge", "alice", "k1", "whispered").await;
    let rotate = UpdateWebhookRequest {
        webhook: Some(Webhook { id: made.id.clone(), ..Default::default() }),
        rotate_secret: true,
        idempotency_key: "rotate".into(),
        ..Default::default()
    };
    let before = receiver.heard(1).await.remove(0);
    assert!(before.is_signed_by(&first) && before.signatures().len() == 1);
    let second = backend.webhooks().update_webhook(rotate.clone()).await.unwrap().into_inner().secret;
    let again = backend.webhooks().update_webhook(rotate).await.unwrap().into_inner();
    assert_eq!((second.len(), again.secret.as_str()), (43, ""), "a secret is shown once");
    backend.say("lounge", "alice", "k2", "whispered again").await;
    let during = receiver.heard(2).await.remove(1);
    assert!(during.is_signed_by(&first) && during.is_signed_by(&second) && during.signatures().len() == 2);
    let shown = format!("{:?}", backend.stands(&made.id).await);
    assert!(!shown.contains(&first) && !shown.contains(&second));
    let log = process.said().join("\n");
    for secret in [first.as_str(), &second, "whispered", "pass=word"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_while_one_is_paused_follows_afterwards() {
    let receiver = Receiver::start(|_, nth| if nth == 1 { Reply::Status(410) } else { Reply::Taken }).await;
    let (_stage, backend) = stage_of(at_home()).await;
    backend.room("lounge", "alice", &[]).await;
    let made = backend.of_messages(&receiver.url("/")).await;
    backend.say("lounge", "alice", "a", "a").await;
    backend.until(&made.id, |webhook| webhook.position == webhook.head).await;
    backend.pause(&made.id, true).await;
    for body in ["b", "c"] {
        backend.say("lounge", "alice", body, body).await;
    }
    // A webhook beside it is served: so there was time, and nothing came.
    let beside = Receiver::start(|_, _| Reply::Taken).await;
    let other = backend.of_messages(&beside.url("/")).await;
    backend.say("lounge", "alice", "d", "d").await;
    backend.until(&other.id, |webhook| webhook.position == webhook.head).await;
    assert_eq!(said(&receiver.heard(1).await), ["a"]);
    backend.pause(&made.id, false).await;
    // The receiver says that it is gone: that pauses too, and loses nothing.
    let gone = backend.until(&made.id, |webhook| webhook.paused).await;
    assert_eq!((gone.last_outcome.as_str(), gone.failures, gone.dead_letters), ("status 410: paused", 1, 0));
    assert_eq!(said(&receiver.heard(2).await), ["a", "b"]);
    backend.pause(&made.id, false).await;
    assert_eq!(said(&receiver.heard(5).await)[2..], ["b", "c", "d"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_since_a_position_comes_again_under_other_names() {
    let receiver = Receiver::start(|_, _| Reply::Taken).await;
    let (_stage, backend) = stage_of(at_home()).await;
    backend.room("lounge", "alice", &[]).await;
    let made = backend.of_messages(&receiver.url("/")).await;
    for body in ["a", "b", "c"] {
        backend.say("lounge", "alice", body, body).await;
    }
    backend.until(&made.id, |webhook| webhook.position == webhook.head).await;
    let heard = receiver.heard(3).await;
    let since = |position| replay_request::What::AfterPosition(position);
    let after_a = heard[0].event().position;
    assert_eq!(backend.replay(&made.id, since(after_a), "").await.unwrap(), 2);
    let again = receiver.heard(5).await;
    assert_eq!(said(&again[3..]), ["b", "c"]);
    assert_eq!((again[3].event(), again[3].id != heard[1].id), (heard[1].event(), true), "receivers take them for new");
    // What was not reached comes anyway, and nothing is left out.
    let head = backend.until(&made.id, |webhook| webhook.position == webhook.head).await.head;
    assert_eq!(backend.replay(&made.id, since(head + 100), "").await.unwrap(), 0);
    backend.say("lounge", "alice", "d", "d").await;
    assert_eq!(said(&receiver.heard(6).await)[5..], ["d"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_falls_behind_what_is_kept_goes_on_there_and_is_told() {
    let receiver = Receiver::start(|_, _| Reply::Taken).await;
    let (stage, backend) = stage_of(at_home().variable("EVENTS_MAX", 1_000)).await;
    backend.room("lounge", "alice", &[]).await;
    let made = backend.of_messages(&receiver.url("/")).await;
    backend.pause(&made.id, true).await;
    let say = async |lane: usize| {
        for nth in 0..100 {
            backend.say("lounge", "alice", &format!("{lane}-{nth}"), "hello").await;
        }
    };
    futures_util::future::join_all((0..12).map(say)).await;
    let expired = loop {
        match backend.replay(&made.id, replay_request::What::AfterPosition(made.position), "").await {
            // It was not tidied up yet.
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            Err(refused) => break refused,
        }
    };
    use tonic_types::StatusExt;
    let first: u64 = expired.get_details_error_info().unwrap().metadata["first_position"].parse().unwrap();
    assert_eq!(refusal(Err::<(), _>(expired)), (tonic::Code::OutOfRange, "EVENTS_EXPIRED".into()));
    backend.pause(&made.id, false).await;
    assert_eq!(receiver.heard(1).await[0].event().position, first);
    let stands = backend.until(&made.id, |webhook| webhook.position == webhook.head).await;
    assert_eq!(stands.dead_letters, 0);
    let metrics = crate::server::get(stage.process.metrics, "/metrics", "").body;
    assert!(metrics.contains(&format!("veza_webhooks_missed_total{{webhook=\"{}\"}} 1", made.id)), "{metrics}");
}
