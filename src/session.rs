//! One task per connection: it drives the session's state machine with what the link, the rooms and the clock say.

pub mod attendance;
pub mod devices;
mod entry;
pub mod guest;
mod meters;
pub mod registry;
pub mod revocation;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;
use veza_engine::session::{Note, Output, Profile, Session, Settings};
use veza_engine::{SessionKey, Timestamp};
use veza_proto::{CloseCode, Lane};

use crate::audio::{Audio, Seat};
use crate::auth::Auth;
use crate::auth::resume::ResumeKeys;
use crate::authz::Authz;
use crate::clock::Clock;
use crate::crash;
use crate::hub::mailbox::{Letter, Mailbox, Order};
use crate::hub::{Caller, Hub};
use crate::telemetry::metrics as declared;
use crate::transport::admission::{Admission, Admissions};
use crate::transport::{DatagramSent, End, Inbound, Link, Transport};
use devices::Devices;
use entry::Waiting;
pub use meters::Meters;
use registry::{Place, Registry, SessionId};

/// What every session needs of the node.
pub struct Node {
    pub hub: Hub,
    pub audio: Audio,
    pub auth: Arc<Auth>,
    pub authz: Authz,
    pub resume: ResumeKeys,
    pub registry: Arc<Registry>,
    pub devices: Devices,
    pub admissions: Admissions,
    pub settings: Arc<Settings>,
    pub clock: Clock,
    pub meters: Meters,
}

/// Letters and frames taken in one turn, so that a busy session leaves room for its neighbours.
const TURN: usize = 64;
/// A link that does not take its closing frame is dropped after this.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// The same for one whose access was revoked: what its transport still holds is not let out to the end.
const REVOKED_WITHIN: Duration = Duration::from_millis(500);

/// Runs a session until its link ends. The admission is given back at the end.
pub async fn run(node: Arc<Node>, admission: Admission, link: Box<dyn Link>) {
    let mut driver = Driver::new(node, link);
    std::future::poll_fn(|cx| driver.poll(cx)).await;
    driver.end();
    drop(admission);
}

struct Driver {
    node: Arc<Node>,
    link: Box<dyn Link>,
    transport: Transport,
    session: Session,
    mailbox: Arc<Mailbox>,
    key: SessionKey,
    place: Option<Place>,
    caller: Option<Caller>,
    /// What it publishes and listens to, once it does.
    seat: Option<Arc<Seat>>,
    /// What the platform gave beside the token's entitlements.
    granted: Vec<String>,
    waiting: Option<Waiting>,
    sleep: Pin<Box<Sleep>>,
    armed: Option<Timestamp>,
    stage: Stage,
    accepted: Instant,
}

enum Stage {
    Running,
    /// The closing frame and what stands before it go out, then the link closes.
    Closing {
        code: CloseCode,
        reason: String,
        until: Instant,
        said: bool,
    },
    /// `code` is that of a close, 0 when there was none.
    Ended {
        why: &'static str,
        code: u16,
    },
}

impl Driver {
    fn new(node: Arc<Node>, link: Box<dyn Link>) -> Self {
        let peer = link.peer();
        let (transport, now) = (peer.transport, node.clock.now());
        let profile = Profile {
            transport: transport.label(),
            format: peer.format,
            datagrams: transport.has_datagrams(),
            needs_ping: !transport.has_datagrams(),
            jitter: rand::random_range(0..1000),
        };
        let session = Session::new(Arc::clone(&node.settings), profile, now);
        let key = node.registry.next_key();
        Self {
            link,
            transport,
            session,
            mailbox: Arc::default(),
            key,
            place: None,
            caller: None,
            seat: None,
            granted: Vec::new(),
            waiting: None,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
            stage: Stage::Running,
            accepted: Instant::now(),
            node,
        }
    }

    /// Everything that can wake a session, in the order of its priority.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..4 {
            let now = self.node.clock.now();
            match &self.stage {
                Stage::Ended { .. } => return Poll::Ready(()),
                Stage::Closing { .. } => return self.poll_closing(cx),
                Stage::Running => {}
            }
            // 1. Deadlines: a silent or slow client must not outlive them because it keeps us busy.
            let mut progress = self.poll_deadline(cx, now);
            // 2. What the rooms and the node say.
            progress |= self.poll_mailbox(cx, now);
            // 3. What was asked elsewhere before the client may go on.
            self.perform(now);
            if matches!(self.stage, Stage::Running) {
                progress |= self.poll_waiting(cx, now);
            }
            // 4. What the client says.
            progress |= self.poll_link(cx, now);
            // 5. What is to be done about it.
            self.perform(now);
            // 6. What the link can take.
            progress |= self.poll_write(cx, now);
            self.perform(now);
            self.mailbox.set_weight(self.session.queued_bytes());
            if !progress && matches!(self.stage, Stage::Running) {
                self.arm(cx);
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, now: Timestamp) -> bool {
        if self.armed.is_none() || self.sleep.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.armed = None;
        self.session.handle_timeout(now);
        true
    }

    /// Sets the one timer to the session's next deadline. One that is set to an earlier moment stays: firing early costs
    /// less than setting it anew for every frame.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let Some((at, _)) = self.session.poll_timeout() else { return };
        if self.armed.is_some_and(|armed| armed <= at) {
            return;
        }
        self.armed = Some(at);
        self.sleep.as_mut().reset(self.node.clock.instant(at).into());
        if self.sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn poll_mailbox(&mut self, cx: &mut Context<'_>, now: Timestamp) -> bool {
        for taken in 0..TURN {
            let Poll::Ready(letter) = self.mailbox.poll_next(cx) else { return taken > 0 };
            match letter {
                Letter::Answer(answer) => {
                    let (ticket, answer) = *answer;
                    self.session.handle_answer(ticket, answer, now);
                }
                Letter::Delivery(delivery) => {
                    let delivery = *delivery;
                    self.node.meters.of(self.transport).delivery.record(delivery.committed.elapsed());
                    self.session.handle_delivery(&delivery.room, &delivery.entry, now);
                }
                Letter::Missed(room) => self.session.handle_missed(&room, now),
                Letter::Notice(room, frame) => self.session.handle_notice(&room, &frame, now),
                Letter::Evicted(room, evicted) => self.session.handle_evicted(&room, *evicted, now),
                Letter::Volatile(frame) => self.session.handle_volatile(&frame),
                Letter::Told(frame) => self.session.handle_told(&frame, now),
                Letter::Order(order) => match *order {
                    Order::Close { code, reason } => self.session.close(code, &reason, now),
                    Order::Drain { after } => self.session.handle_drain(after, now),
                },
            }
        }
        true
    }

    fn poll_link(&mut self, cx: &mut Context<'_>, now: Timestamp) -> bool {
        for taken in 0..TURN {
            if self.waiting.is_some() {
                return taken > 0;
            }
            let Poll::Ready(inbound) = self.link.poll_recv(cx) else { return taken > 0 };
            let meters = self.node.meters.of(self.transport);
            match inbound {
                Inbound::Frame { lane, frame, bytes } => {
                    meters.received(lane).increment(1);
                    meters.bytes_received.increment(bytes as u64);
                    self.session.handle_frame(lane, frame, now);
                }
                Inbound::Datagram { frame, bytes } => {
                    meters.datagrams_received.increment(1);
                    meters.bytes_received.increment(bytes as u64);
                    self.session.handle_datagram(frame, now);
                }
                Inbound::Media { packet } => {
                    meters.datagrams_received.increment(1);
                    meters.bytes_received.increment(packet.len() as u64);
                    self.session.handle_media(packet, now);
                }
                Inbound::Bad { lane, error } => self.session.handle_bad_frame(lane, &error, now),
                Inbound::BadDatagram { .. } => {
                    declared::datagrams_dropped_total(self.transport.label(), "malformed").increment(1);
                    self.session.handle_bad_datagram(now);
                }
                Inbound::Alive => self.session.handle_alive(now),
                Inbound::Ended(end) => {
                    let (why, code) = over(&end);
                    self.stage = Stage::Ended { why, code };
                    return true;
                }
            }
            // An answer to one frame may be due before the next is read.
            self.perform(now);
            if !matches!(self.stage, Stage::Running) {
                return true;
            }
        }
        true
    }

    /// Does what the state machine wants done.
    fn perform(&mut self, now: Timestamp) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Admit(admit) => self.admit(admit, now),
                Output::Refresh { ticket, token } => self.refresh(ticket, token, now),
                Output::Ask { ticket, ask } => {
                    if let Some(caller) = &self.caller {
                        self.node.hub.ask(caller, ticket, ask);
                    }
                }
                Output::AskAudio { ticket, ask } => {
                    if let Some(caller) = &self.caller {
                        let seat = self.seat.get_or_insert_with(|| Arc::new(Seat::new()));
                        self.node.audio.ask(caller, seat, ticket, ask, self.link.media());
                    }
                }
                Output::Media(packet) => self.node.audio.packet(self.key, packet, Instant::now()),
                Output::Datagram(datagram) => match self.link.send_datagram(&datagram.frame) {
                    DatagramSent::Sent => {
                        let meters = self.node.meters.of(self.transport);
                        meters.datagrams_sent.increment(1);
                        if datagram.message.is_some() {
                            meters.delivered_by_datagram.increment(1);
                        }
                    }
                    unsent @ (DatagramSent::TooLarge | DatagramSent::Dropped) => {
                        let reason = if unsent == DatagramSent::TooLarge { "too_large" } else { "full" };
                        declared::datagrams_dropped_total(self.transport.label(), reason).increment(1);
                        self.session.handle_datagram_unsent(datagram, now);
                    }
                },
                Output::Ping => self.link.ping(),
                Output::Close { code, reason } => {
                    self.leave(code.label(), code.code());
                    let within = if code == CloseCode::Revoked { REVOKED_WITHIN } else { CLOSE_WITHIN };
                    self.stage = Stage::Closing { code, reason, until: Instant::now() + within, said: false };
                }
                Output::Note(note) => self.count(note),
            }
        }
    }

    /// Gives the link what it can take, in the order of the lanes' priority.
    fn poll_write(&mut self, cx: &mut Context<'_>, now: Timestamp) -> bool {
        let meters = self.node.meters.of(self.transport);
        let (mut written, mut acknowledged) = (0, false);
        while written < TURN {
            let (link, session) = (&mut self.link, &mut self.session);
            let Some(lane) = session.next_lane(|lane| link.poll_ready(cx, lane).is_ready()) else { break };
            let Some(frame) = session.pop_frame(lane) else { break };
            meters.sent(lane).increment(1);
            meters.bytes_sent.increment(frame.len(link.peer().format) as u64);
            if frame.is_message() {
                meters.delivered_by_stream.increment(1);
            }
            link.start_send(lane, &frame);
            acknowledged |= frame.is_acknowledgement();
            written += 1;
        }
        let flushed = self.link.poll_flush(cx);
        if acknowledged && flushed.is_ready() {
            crash::point("after_acknowledgement");
        }
        if written > 0 {
            self.session.handle_written(now);
        }
        written > 0
    }

    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stage::Closing { code, reason, until, said } = &mut self.stage else { return Poll::Pending };
        while !*said && self.link.poll_ready(cx, Lane::Control).is_ready() {
            match self.session.pop_frame(Lane::Control) {
                Some(frame) => self.link.start_send(Lane::Control, &frame),
                None => *said = true,
            }
        }
        let closed = if *said { self.link.poll_close(cx, *code, reason) } else { self.link.poll_flush(cx).map(drop) };
        let (why, code, until, said) = (code.label(), code.code(), *until, *said);
        self.sleep.as_mut().reset(until.into());
        if (said && closed.is_ready()) || self.sleep.as_mut().poll(cx).is_ready() {
            self.stage = Stage::Ended { why, code };
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn count(&self, note: Note) {
        let transport = self.transport.label();
        match note {
            Note::Welcomed { resumed } => {
                declared::sessions_opened_total(transport).increment(1);
                declared::sessions(transport).increment(1.0);
                declared::hello_seconds(transport).record(self.accepted.elapsed());
                if resumed {
                    declared::sessions_resumed_total(transport).increment(1);
                }
            }
            Note::Verdict(verdict) => declared::resume_verdicts_total(verdict).increment(1),
            Note::Replayed(messages) => declared::replayed_messages_total().increment(messages),
            Note::Lagging => declared::lagging_total().increment(1),
            Note::ErrorSaid(code) => declared::errors_sent_total(code.as_str_name()).increment(1),
            Note::DatagramOverRate => declared::datagrams_dropped_total(transport, "rate").increment(1),
            Note::MediaOverRate => declared::audio_packets_refused_total("rate").increment(1),
        }
    }

    /// Tells how it ended.
    fn end(&mut self) {
        let transport = self.transport.label();
        let (why, code) = match self.stage {
            Stage::Ended { why, code } => (why, code),
            Stage::Running | Stage::Closing { .. } => ("dropped", CloseCode::Internal.code()),
        };
        self.leave(why, code);
        if self.caller.is_none() {
            declared::hello_failed_total(transport, why).increment(1);
        }
        tracing::debug!(session = self.key.0, transport, why, "a session has ended");
    }

    /// Leaves the rooms and gives its place back. A session that is closing is nowhere any more, however long its link takes.
    fn leave(&mut self, why: &'static str, code: u16) {
        if let Some(place) = self.place.take() {
            place.leave(code);
            self.node.hub.forget(self.key, &self.mailbox, self.session.rooms());
            if let Some(seat) = self.seat.take() {
                self.node.audio.leave(self.key, &seat);
            }
            declared::sessions(self.transport.label()).decrement(1.0);
            declared::sessions_closed_total(self.transport.label(), why).increment(1);
        }
    }
}

/// A client that closes its link has said what it wanted, whatever number it takes for that.
fn over(end: &End) -> (&'static str, u16) {
    match end {
        End::Closed { .. } => ("peer_closed", CloseCode::Normal.code()),
        End::Lost { .. } => ("lost", 0),
    }
}

fn hex(id: &SessionId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
