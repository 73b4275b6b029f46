//! The Icecast door: source clients send sound under a mount, which is a stream's id.

mod air;
mod answer;
mod body;
mod decode;
mod pace;
mod request;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use veza_engine::streams::DESCRIPTION_BYTES_MAX;
use veza_proto::limits::ROOM_TITLE_BYTES_MAX;
use veza_proto::v1::AudioProfile;
use veza_sound::feed::Wanted;

use crate::auth::AuthError;
use crate::auth::source::SourceKeys;
use crate::config;
use crate::session::Node;
use crate::session::guest::{Guest, Proof, identify};
use crate::tasks::Tasks;
use crate::telemetry::metrics as declared;
use crate::transport::tcp;
use air::Air;
use answer::Answer;
use body::Body;
use request::{Ask, GoAhead, Request};

/// A head at most, its empty line included.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// From the connection to the head's end.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// What a client still sends is read for so long behind its answer: a socket that closes with bytes unread takes the
/// answer back.
const LINGER: Duration = Duration::from_secs(1);
const TRANSPORT: &str = "icecast";

/// The door, bound.
pub struct Door {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Why the door stays shut.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("ICECAST_PORT cannot be bound: {0}")]
    Bind(#[from] io::Error),
    #[error(transparent)]
    Key(#[from] AuthError),
}

/// What the connections share.
struct Shared {
    node: Arc<Node>,
    tasks: Tasks,
    passwords: SourceKeys,
    sources_max: usize,
    /// Mounts that somebody sends to.
    mounts: Mutex<HashSet<String>>,
}

/// A mount that is taken until this is dropped.
struct Mount<'a> {
    shared: &'a Shared,
    name: &'a str,
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        self.shared.mounts.lock().unwrap_or_else(PoisonError::into_inner).remove(self.name);
        declared::icecast_sources().decrement(1.0);
    }
}

impl Door {
    /// Binds the port. Nothing is accepted before [`Door::run`].
    ///
    /// # Errors
    /// When the port is taken or not ours to take, or the key of passwords is not there to be read.
    pub fn bind(config: &config::Icecast, data_dir: &Path, node: Arc<Node>, tasks: Tasks) -> Result<Self, OpenError> {
        let passwords = SourceKeys::load(data_dir)?;
        let listener = tcp::bind((config.host, config.port).into())?;
        let shared = Shared { node, tasks, passwords, sources_max: config.sources_max, mounts: Mutex::default() };
        Ok(Self { address: listener.local_addr()?, listener, shared: Arc::new(shared) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until the token is cancelled, and serves nobody beyond it.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, shared, .. } = self;
        let stopping = stop.clone();
        tcp::accept(listener, stop, move |stream, remote| {
            let (door, stop) = (Arc::clone(&shared), stopping.clone());
            shared.tasks.spawn("icecast connection", async move {
                let _outside = stop.run_until_cancelled(door.serve(stream, remote)).await;
            });
        })
        .await;
    }
}

impl Shared {
    /// Serves one connection to its end.
    async fn serve(&self, mut stream: TcpStream, remote: SocketAddr) {
        let (is_modern, answer) = match self.node.admissions.try_admit(remote.ip()) {
            Ok(_admission) => self.request(&mut stream, remote).await,
            Err(refusal) => (false, Some(refusal.into())),
        };
        let Some(answer) = answer else { return };
        declared::icecast_answers_total(answer.label()).increment(1);
        let said = async {
            stream.write_all(&answer.bytes(is_modern)).await?;
            stream.shutdown().await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        };
        if let Ok(Err(error)) = tokio::time::timeout(LINGER, said).await {
            tracing::debug!(%error, "a source client did not wait for its answer");
        }
    }

    /// One request: whether it knows HTTP/1.1, and its answer, if that was not given before its body came.
    async fn request(&self, stream: &mut TcpStream, remote: SocketAddr) -> (bool, Option<Answer>) {
        let mut buffer = BytesMut::new();
        let head = tokio::time::timeout(HEAD_WITHIN, head(stream, &mut buffer)).await;
        let head = head.unwrap_or_else(|_elapsed| Err(Answer::new(408, "the head did not come in time")));
        let request = match head.and_then(|head| Request::parse(&head).map_err(Answer::from)) {
            Ok(request) => request,
            Err(answer) => return (false, Some(answer)),
        };
        (request.is_modern, self.answer(stream, buffer, &request, remote).await.unwrap_or_else(Some))
    }

    async fn answer(
        &self,
        stream: &mut TcpStream,
        early: BytesMut,
        request: &Request,
        remote: SocketAddr,
    ) -> Result<Option<Answer>, Answer> {
        let mount = match &request.ask {
            Ask::Options => return Ok(Some(Answer::new(204, ""))),
            Ask::Source { mount } | Ask::Playing { mount, .. } => mount.as_str(),
            Ask::Password => "",
        };
        let client = request.header("user-agent").unwrap_or_default();
        let shown =
            request.credentials.as_ref().ok_or_else(|| Answer::new(401, "a token is needed, or a password of ours"))?;
        let now_ms = self.node.clock.now().as_millis();
        let (proof, has_token) = match self.passwords.open(&shown.user, &shown.password, now_ms) {
            Some(identity) => (Proof::Known(identity), false),
            None => (Proof::Token(shown.password.clone()), true),
        };
        let checked = identify(&self.node, proof, remote, TRANSPORT, client).await?;
        if !matches!(shown.user.as_str(), "" | "source") && shown.user != checked.user().as_str() {
            return Err(Answer::new(401, "the user is neither source nor the token's"));
        }
        if request.ask == Ask::Password {
            if !has_token {
                return Err(Answer::new(403, "a password makes no other: show a token"));
            }
            let made = self.passwords.make(checked.user(), now_ms);
            let made = json!({ "user": checked.user().as_str(), "password": made.text, "expires_ms": made.expires_ms });
            return Ok(Some(Answer::json(&made)));
        }
        if let Ask::Playing { playing, .. } = &request.ask {
            let guest = Guest::passing(&self.node, checked);
            self.node.audio.set_playing(guest.caller(), mount, playing).await?;
            return Ok(Some(Answer::new(200, "said")));
        }
        if !request.is_sound() {
            return Err(Answer::new(415, "taken are Ogg (Opus, Vorbis), MP3, FLAC and WAV"));
        }
        let body = Body::new(request.framing()?);
        let _mount = self.take(mount)?;
        let guest = Guest::enter(&self.node, checked, TRANSPORT, client)?;
        let name = shortened(request.header("ice-name"), ROOM_TITLE_BYTES_MAX);
        let name = if name.is_empty() { mount } else { &name };
        let about = shortened(request.header("ice-description"), DESCRIPTION_BYTES_MAX);
        let prepared = self.node.audio.prepare(guest.caller(), mount, name, &about).await?;
        let (decoding, work) = decode::decoding(Wanted::usual(prepared.profile() == AudioProfile::Voice));
        self.tasks.spawn_thread("icecast-decoder", work).map_err(|_| Answer::later(503, "no thread is free", 5))?;
        let go_ahead = request.go_ahead();
        let words: &[u8] = match go_ahead {
            GoAhead::Continue => b"HTTP/1.1 100 Continue\r\n\r\n",
            GoAhead::Answer => b"HTTP/1.0 200 OK\r\n\r\n",
            GoAhead::Nothing => b"",
        };
        stream.write_all(words).await.map_err(|_| Answer::new(408, "the source has gone"))?;
        let now = self.node.clock.now().as_millis();
        let left = Duration::from_millis(guest.expires().as_millis().saturating_sub(now));
        let air = Air { audio: &self.node.audio, guest: &guest, stream: mount, left };
        let end = air.run(stream, early, body, decoding).await;
        let (reason, code) = (end.label(), end.code());
        let answer = Answer::from(end);
        tracing::info!(stream = mount, reason, why = answer.sentence, "a source has ended");
        declared::icecast_ended_total(reason).increment(1);
        guest.leave(code);
        if go_ahead == GoAhead::Answer {
            declared::icecast_answers_total("200").increment(1);
            return Ok(None);
        }
        Ok(Some(answer))
    }

    fn take<'a>(&'a self, name: &'a str) -> Result<Mount<'a>, Answer> {
        let mut mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        if mounts.contains(name) {
            return Err(Answer::new(403, "the mount is in use: somebody publishes this stream"));
        }
        if mounts.len() >= self.sources_max {
            return Err(Answer::later(503, "as many sources as may be are here", 5));
        }
        mounts.insert(name.to_owned());
        declared::icecast_sources().increment(1.0);
        Ok(Mount { shared: self, name })
    }
}

/// What a header says, so far as there is room for it: a show does not fail for its name.
fn shortened(header: Option<&str>, bytes_max: usize) -> String {
    let mut text: String = header.unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

/// The head without its empty line; what comes behind it stays in the buffer.
async fn head(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<BytesMut, Answer> {
    loop {
        if let Some((bytes, behind)) = end_of_head(buffer) {
            if bytes + behind > HEAD_BYTES_MAX {
                return Err(Answer::new(431, "the head is too long"));
            }
            let mut head = buffer.split_to(bytes + behind);
            head.truncate(bytes);
            return Ok(head);
        }
        if buffer.len() >= HEAD_BYTES_MAX {
            return Err(Answer::new(431, "the head is too long"));
        }
        buffer.reserve(1024);
        match stream.read_buf(buffer).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(Answer::new(400, "the head has no end")),
        }
    }
}

/// How long a head is, and the line ends behind it: older clients end lines without a carriage return.
fn end_of_head(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = |line_ends: &[u8]| bytes.windows(line_ends.len()).position(|found| found == line_ends);
    let ends = [(end(b"\r\n\r\n"), 4), (end(b"\n\n"), 2)];
    ends.into_iter().filter_map(|(at, behind)| Some((at?, behind))).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_end_with_an_empty_line_of_either_kind() {
        assert_eq!(end_of_head(b"a\r\nb: c\r\n\r\nbody\n\n"), Some((7, 4)));
        assert_eq!(end_of_head(b"a\nb: c\n\nbody\r\n\r\n"), Some((6, 2)));
        assert_eq!(end_of_head(b"a\r\nb: c\r\n"), None);
    }

    #[test]
    fn names_at_their_bound_and_one_past() {
        assert_eq!(shortened(Some(&"x".repeat(128)), 128).len(), 128);
        assert_eq!(shortened(Some(&"x".repeat(129)), 128).len(), 128);
        assert_eq!(shortened(Some("h\u{e9}\u{7}llo"), 2), "h", "no half of a letter");
        assert_eq!(shortened(None, 128), "");
    }
}
