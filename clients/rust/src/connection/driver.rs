//! The task behind a connection: it alone touches the link.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use veza_proto::CloseCode;
use veza_proto::v1::client_frame::Command;
use veza_proto::v1::{Bye, ClientFrame, Closing, Hello, Push, Reply, Welcome, push, reply, server_frame};

use super::{Arrived, Request, Shared};
use crate::error::{Ended, Error};
use crate::link::{Inbound, Lane, Link};

/// The id of the first command of a link, and of the one command of a bulk stream.
pub(super) const HELLO_ID: u32 = 1;
/// Bytes the link may hold unsent before it takes no more commands.
const BUFFERED_BYTES_MAX: usize = 128 * 1024;
/// Pushes that may come before the welcome, by the other lanes.
const EARLY_MAX: usize = 1024;
/// After a bye the server closes; after this long the client does.
const BYE_WITHIN: Duration = Duration::from_secs(1);

/// The task behind a connection.
pub(super) struct Driver {
    link: Link,
    requests: mpsc::Receiver<Request>,
    pushes: mpsc::Sender<push::Event>,
    media: mpsc::Sender<Arrived>,
    /// Pushes that found the queue full; while there are some nothing more is read.
    held: VecDeque<push::Event>,
    waiting: BTreeMap<u32, oneshot::Sender<Result<reply::Result, Error>>>,
    next_id: u32,
    /// The server's last words, which say more than the transport's close.
    closing: Option<Ended>,
    shared: Arc<Shared>,
}

#[expect(clippy::large_enum_variant, reason = "it lives from one line to the next")]
enum Woken {
    Request(Option<Request>),
    Link(Inbound),
}

enum Leave {
    Ended(Ended),
    Bye,
    Dropped,
}

impl Driver {
    /// `held` are pushes that came before the welcome.
    pub(super) fn new(
        link: Link,
        requests: mpsc::Receiver<Request>,
        pushes: mpsc::Sender<push::Event>,
        media: mpsc::Sender<Arrived>,
        held: VecDeque<push::Event>,
        shared: Arc<Shared>,
    ) -> Self {
        let waiting = BTreeMap::new();
        Self { link, requests, pushes, media, held, waiting, next_id: HELLO_ID + 1, closing: None, shared }
    }

    pub(super) async fn run(mut self) {
        let leave = self.drive().await;
        let ended = match leave {
            Leave::Ended(ended) => ended,
            Leave::Bye => {
                let goodbye = ClientFrame { id: 0, command: Some(Command::Bye(Bye {})) };
                self.link.start_send(Lane::Control, &goodbye);
                let ended = tokio::time::timeout(BYE_WITHIN, self.until_end()).await;
                ended.unwrap_or_else(|_| Ended::lost("left"))
            }
            Leave::Dropped => Ended::lost("left"),
        };
        self.link.close(CloseCode::Normal).await;
        let ended = self.closing.take().unwrap_or(ended);
        tracing::debug!(%ended, transport = self.shared.transport.label(), "the connection ended");
        // Nobody else sets it.
        self.shared.ended.set(ended.clone()).ok();
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            waiting.send(Err(Error::Ended(ended.clone()))).ok();
        }
    }

    /// Woken by, in this order: room for a held push, a command, the link.
    async fn drive(&mut self) -> Leave {
        loop {
            let read = self.held.is_empty();
            let woken = tokio::select! {
                biased;
                permit = self.pushes.reserve(), if !read => {
                    match (permit, self.held.pop_front()) {
                        (Ok(permit), Some(event)) => permit.send(event),
                        // Nobody reads pushes: they are discarded.
                        (Err(_), _) => self.held.clear(),
                        (Ok(_), None) => {}
                    }
                    continue;
                }
                request = self.requests.recv(), if self.link.buffered() < BUFFERED_BYTES_MAX => Woken::Request(request),
                inbound = std::future::poll_fn(|cx| poll_link(&mut self.link, cx, read)) => Woken::Link(inbound),
            };
            match woken {
                Woken::Request(Some(Request::Command { lane, command, reply })) => self.send(lane, *command, reply),
                Woken::Request(Some(Request::Media(packet))) => self.link.send_media(packet),
                Woken::Request(Some(Request::Bye)) => return Leave::Bye,
                Woken::Request(None) => return Leave::Dropped,
                Woken::Link(inbound) => {
                    if let Some(ended) = self.take(inbound) {
                        return Leave::Ended(ended);
                    }
                }
            }
        }
    }

    async fn until_end(&mut self) -> Ended {
        loop {
            let inbound = std::future::poll_fn(|cx| poll_link(&mut self.link, cx, true)).await;
            self.held.clear();
            if let Some(ended) = self.take(inbound) {
                return ended;
            }
        }
    }

    fn send(&mut self, lane: Lane, command: Command, reply: Option<oneshot::Sender<Result<reply::Result, Error>>>) {
        let id = match reply {
            None => 0,
            Some(reply) => {
                let id = self.next_id;
                self.next_id = self.next_id.checked_add(1).unwrap_or(HELLO_ID + 1);
                // Callers that gave up waiting leave their entry behind until its reply comes, or until here.
                if self.waiting.len() >= 256 {
                    self.waiting.retain(|_, waiting| !waiting.is_closed());
                }
                self.waiting.insert(id, reply);
                id
            }
        };
        self.link.start_send(lane, &ClientFrame { id, command: Some(command) });
    }

    fn take(&mut self, inbound: Inbound) -> Option<Ended> {
        let heard = u64::try_from(self.shared.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.heard_ms.store(heard, Ordering::Relaxed);
        match inbound {
            Inbound::Alive => {}
            // Whoever plays too slowly, or not at all, loses it.
            Inbound::Media(packet) => drop(self.media.try_send((packet, Instant::now()))),
            Inbound::Ended(ended) => return Some(ended),
            Inbound::Frame(frame) => match frame.frame {
                Some(server_frame::Frame::Reply(reply)) => self.answer(reply),
                Some(server_frame::Frame::Push(Push { event: Some(event) })) => self.push(event),
                Some(server_frame::Frame::Push(Push { event: None })) | None => {}
            },
        }
        None
    }

    fn answer(&mut self, reply: Reply) {
        match self.waiting.remove(&reply.id) {
            // A caller that gave up does not want it.
            Some(waiting) => drop(waiting.send(result_of(reply))),
            None => tracing::debug!(id = reply.id, "a reply that nobody waits for"),
        }
    }

    fn push(&mut self, event: push::Event) {
        if let push::Event::Closing(closing) = &event {
            self.closing = Some(ended_by(closing));
            return;
        }
        match self.pushes.try_send(event) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(event)) => self.held.push_back(event),
        }
    }
}

/// Waits for the welcome. Pushes of the other lanes may come before it and are kept.
pub(super) async fn say_hello(link: &mut Link, hello: Hello) -> Result<(Welcome, VecDeque<push::Event>), Error> {
    link.start_send(Lane::Control, &ClientFrame { id: HELLO_ID, command: Some(Command::Hello(hello)) });
    let mut early = VecDeque::new();
    loop {
        match std::future::poll_fn(|cx| poll_link(link, cx, true)).await {
            Inbound::Frame(frame) => match frame.frame {
                Some(server_frame::Frame::Reply(reply)) => match result_of(reply) {
                    Ok(reply::Result::Welcome(welcome)) => return Ok((welcome, early)),
                    Ok(_) => return Err(Error::Unexpected),
                    Err(error) => {
                        link.close(CloseCode::Normal).await;
                        return Err(error);
                    }
                },
                Some(server_frame::Frame::Push(Push { event: Some(push::Event::Closing(closing)) })) => {
                    return Err(Error::Ended(ended_by(&closing)));
                }
                Some(server_frame::Frame::Push(Push { event: Some(event) })) => {
                    if early.len() >= EARLY_MAX {
                        return Err(Error::Ended(Ended::lost("the server talks without having welcomed")));
                    }
                    early.push_back(event);
                }
                Some(server_frame::Frame::Push(Push { event: None })) | None => {}
            },
            Inbound::Alive | Inbound::Media(_) => {}
            Inbound::Ended(ended) => return Err(Error::Ended(ended)),
        }
    }
}

pub(super) fn result_of(reply: Reply) -> Result<reply::Result, Error> {
    match reply.result {
        Some(reply::Result::Error(error)) => Err(Error::Refused(error)),
        Some(result) => Ok(result),
        None => Err(Error::Unexpected),
    }
}

fn ended_by(closing: &Closing) -> Ended {
    Ended {
        retry_after: Duration::from_millis(closing.retry_after_ms.into()),
        ..Ended::closed(closing.code.into(), closing.reason.as_bytes())
    }
}

/// Writes what waits, then reads if there is room for what comes.
fn poll_link(link: &mut Link, cx: &mut Context<'_>, read: bool) -> Poll<Inbound> {
    let _written_or_waiting = link.poll_flush(cx);
    if !read {
        return Poll::Pending;
    }
    let inbound = link.poll_recv(cx);
    if inbound.is_pending() {
        // Reading may have queued something of its own (a pong).
        let _written_or_waiting = link.poll_flush(cx);
    }
    inbound
}
