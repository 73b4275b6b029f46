//! What calls about webhooks are answered.

use tonic::Code;
use veza_client::proto::gateway::v1::*;

use super::super::{bad_field, not_found};
use super::*;

const URL: &str = "https://hooks.example/veza";
const NOBODY: &str = "AAAAAAAAAAAAAAAAAAAAAA";

fn create(url: &str, key: &str) -> CreateWebhookRequest {
    CreateWebhookRequest { url: url.into(), paused: true, idempotency_key: key.into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_made_once_under_a_key_and_shows_its_secret_once() {
    let (_stage, backend) = stage_of(Start::new()).await;
    let made = backend.webhooks().create_webhook(create(URL, "k1")).await.unwrap().into_inner();
    let again = backend.webhooks().create_webhook(create(URL, "k1")).await.unwrap().into_inner();
    assert_eq!((again.webhook, again.secret.as_str(), made.secret.len()), (made.webhook.clone(), "", 43));
    let reused = backend.webhooks().create_webhook(create("https://other.example/", "k1")).await;
    assert_eq!(refusal(reused), (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED".into()));
    let id = made.webhook.unwrap().id;
    let delete = DeleteWebhookRequest { id: id.clone(), idempotency_key: "k2".into() };
    for _twice in 0..2 {
        backend.webhooks().delete_webhook(delete.clone()).await.unwrap();
    }
    let unkeyed = DeleteWebhookRequest { id: id.clone(), ..Default::default() };
    assert_eq!(refusal(backend.webhooks().delete_webhook(unkeyed).await), not_found());
    let gone = backend.webhooks().create_webhook(create(URL, "k1")).await;
    assert_eq!(refusal(gone), not_found(), "what the key has made is not there any more");
    assert_eq!(refusal(backend.webhooks().get_webhook(GetWebhookRequest { id }).await), not_found());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_changes_what_its_mask_names() {
    let (_stage, backend) = stage_of(Start::new()).await;
    let made = backend.webhooks().create_webhook(create(URL, "")).await.unwrap().into_inner().webhook.unwrap();
    let filter = EventFilter { rooms: vec!["lounge".into()], ..Default::default() };
    let wanted = Webhook {
        id: made.id.clone(),
        url: "https://other.example/".into(),
        filter: Some(filter.clone()),
        ..Default::default()
    };
    let changed = backend.update(wanted.clone(), "filter").await.unwrap();
    let only_filter = Webhook { filter: Some(filter), ..made.clone() };
    assert_eq!((changed.webhook, changed.secret.as_str()), (Some(only_filter.clone()), ""));
    let changed = backend.update(wanted.clone(), "url").await.unwrap();
    assert_eq!(changed.webhook, Some(Webhook { url: "https://other.example/".into(), ..only_filter }));
    assert!(!backend.update(wanted.clone(), "paused").await.unwrap().webhook.unwrap().paused);

    assert_eq!(bad_field(backend.update(wanted.clone(), "secret").await), "update_mask");
    let maskless = UpdateWebhookRequest { webhook: Some(wanted.clone()), ..Default::default() };
    assert_eq!(bad_field(backend.webhooks().update_webhook(maskless).await), "update_mask");
    let of = |kinds: Vec<i32>| Some(EventFilter { kinds, ..Default::default() });
    let unknown = Webhook { filter: of(vec![99]), ..wanted.clone() };
    assert_eq!(bad_field(backend.update(unknown, "filter").await), "webhook.filter.kinds");
    let unknown = CreateWebhookRequest { filter: of(vec![99]), ..create(URL, "") };
    assert_eq!(bad_field(backend.webhooks().create_webhook(unknown).await), "filter.kinds");
    for (id, field) in [("", true), ("short", true), (&format!("{NOBODY}A")[..], true), (NOBODY, false)] {
        let refused = backend.update(Webhook { id: id.into(), ..wanted.clone() }, "paused").await;
        if field {
            assert_eq!(bad_field(refused), "webhook.id");
        } else {
            assert_eq!(refusal(refused), not_found());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_so_many_webhooks_and_they_are_listed_in_pages() {
    let (_stage, backend) = stage_of(Start::new()).await;
    let mut ids = Vec::new();
    for _ in 0..32 {
        let made = backend.webhooks().create_webhook(create(URL, "")).await.unwrap().into_inner();
        ids.push(made.webhook.unwrap().id);
    }
    let more = backend.webhooks().create_webhook(create(URL, "")).await;
    assert_eq!(refusal(more), (Code::ResourceExhausted, "LIMIT".into()));
    ids.sort();
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let asked = ListWebhooksRequest { page_size: 5, page_token };
        let page = backend.webhooks().list_webhooks(asked).await.unwrap().into_inner();
        assert!(page.webhooks.len() <= 5);
        listed.extend(page.webhooks.into_iter().map(|webhook| webhook.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ids);
    let strange = ListWebhooksRequest { page_token: "no token".into(), ..Default::default() };
    assert_eq!(refusal(backend.webhooks().list_webhooks(strange).await), (Code::InvalidArgument, "PAGE_TOKEN".into()));
    // They are no consumers that anybody lists, asks for or deletes.
    let consumers = backend.events().list_consumers(ListConsumersRequest::default()).await.unwrap().into_inner();
    assert_eq!(consumers.consumers, []);
    let delete = DeleteConsumerRequest { consumer: format!("webhook:{}", ids[0]), ..Default::default() };
    assert_eq!(bad_field(backend.events().delete_consumer(delete).await), "consumer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_replayed_is_named() {
    let (_stage, backend) = stage_of(Start::new()).await;
    let made = backend.webhooks().create_webhook(create(URL, "")).await.unwrap().into_inner().webhook.unwrap();
    let nothing = ReplayRequest { id: made.id.clone(), ..Default::default() };
    assert_eq!(bad_field(backend.webhooks().replay(nothing).await), "dead_letters");
    let none = backend.replay(&made.id, replay_request::What::DeadLetters(false), "").await;
    assert_eq!(bad_field(none), "dead_letters");
    for number in [0, 1, u64::MAX] {
        let missing = backend.replay(&made.id, replay_request::What::Number(number), "").await;
        assert_eq!(refusal(missing), not_found());
    }
    assert_eq!(backend.replay(&made.id, replay_request::What::DeadLetters(true), "").await.unwrap(), 0);
    let all = replay_request::What::DeadLetters(true);
    assert_eq!(refusal(backend.replay(NOBODY, all, "").await), not_found());
    assert_eq!(bad_field(backend.replay("", all, "").await), "id");
    let list = |id: &str, page_token: &str| ListDeadLettersRequest {
        id: id.into(),
        page_token: page_token.into(),
        ..Default::default()
    };
    assert_eq!(refusal(backend.webhooks().list_dead_letters(list(NOBODY, "")).await), not_found());
    let strange = backend.webhooks().list_dead_letters(list(&made.id, "*")).await;
    assert_eq!(refusal(strange), (Code::InvalidArgument, "PAGE_TOKEN".into()));
}
