//! Somebody's receiver of webhooks: an HTTP server on this machine that notes what it hears.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;
use veza_client::proto::gateway::v1::Event;

use crate::carrier::SOON;

#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) path: String,
    pub(super) id: String,
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
    timestamp: String,
    signature: String,
}

/// What it answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reply {
    Taken,
    Status(u16),
    /// 503, and not before a second has passed.
    Later,
    /// To another receiver.
    Elsewhere(SocketAddr),
}

type Answer = Box<dyn Fn(&Heard, usize) -> Reply + Send + Sync>;

#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    heard: Arc<watch::Sender<Vec<Heard>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Receiver {
    /// `answer` is given a delivery and how many came before it.
    pub(super) async fn start(answer: impl Fn(&Heard, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answer: Answer = Box::new(answer);
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            heard: Arc::new(watch::Sender::new(Vec::new())),
            answer: Arc::new(Mutex::new(answer)),
        };
        let serving = receiver.clone();
        let app = axum::Router::new().fallback(move |request: Request| {
            let serving = serving.clone();
            async move { serving.take(request).await }
        });
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        receiver
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers otherwise from now on.
    pub(super) fn answer(&self, answer: impl Fn(&Heard, usize) -> Reply + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    async fn take(&self, request: Request) -> Response<String> {
        assert_eq!(request.method(), "POST");
        let (parts, body) = request.into_parts();
        let heard = Heard {
            path: parts.uri.to_string(),
            id: header(&parts.headers, "veza-webhook-id"),
            content_type: header(&parts.headers, "content-type"),
            timestamp: header(&parts.headers, "veza-webhook-timestamp"),
            signature: header(&parts.headers, "veza-webhook-signature"),
            body: to_bytes(body, 1024 * 1024).await.unwrap().to_vec(),
        };
        let reply = (self.answer.lock().unwrap())(&heard, self.heard.borrow().len());
        self.heard.send_modify(|all| all.push(heard));
        let response = Response::builder();
        let response = match reply {
            Reply::Taken => response.status(StatusCode::NO_CONTENT),
            Reply::Status(status) => response.status(status),
            Reply::Later => response.status(503).header("retry-after", "1"),
            Reply::Elsewhere(address) => response.status(307).header("location", format!("http://{address}/")),
        };
        response.body(String::new()).unwrap()
    }

    /// What was heard so far, once it is so many or more.
    pub(super) async fn heard(&self, count: usize) -> Vec<Heard> {
        self.until(|heard| heard.len() >= count).await
    }

    pub(super) async fn until(&self, holds: impl Fn(&[Heard]) -> bool) -> Vec<Heard> {
        let mut heard = self.heard.subscribe();
        let found = tokio::time::timeout(SOON, heard.wait_for(|heard| holds(heard))).await;
        let found = found.map(|found| found.unwrap().clone());
        found.unwrap_or_else(|_| panic!("only this was heard: {:?}", self.heard.borrow()))
    }

    pub(super) fn count(&self) -> usize {
        self.heard.borrow().len()
    }
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

impl Heard {
    pub(super) fn event(&self) -> Event {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(super) fn signatures(&self) -> Vec<&str> {
        self.signature.split(',').collect()
    }

    /// Whether one of the signatures is by this secret, and was made just now.
    pub(super) fn is_signed_by(&self, secret: &str) -> bool {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(self.timestamp.parse::<u64>().unwrap().abs_diff(now) < 120, "{self:?}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signed = [format!("{}.{}.", self.id, self.timestamp).as_bytes(), &self.body].concat();
        let tag = hmac::sign(&key, &signed);
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.signatures().contains(&format!("v1={hex}").as_str())
    }
}
