//! The lanes of a session on QUIC streams, plain or inside a WebTransport session.
//!
//! Every bidirectional stream is opened by the client and names its lane in its first byte. Nothing here has a task or
//! a buffer of its own while idle: the link's one task polls, and quinn holds what arrives.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use quinn::{RecvStream, SendStream, VarInt};
use veza_proto::frame::{Decoder, FrameError};
use veza_proto::v1::ClientFrame;
use veza_proto::{CloseCode, Lane, LaneByte};

/// Read from a stream at a time, bytes. With a frame's rest it bounds what a stream makes us hold.
const CHUNK_BYTES: usize = 8 * 1024;

/// Answered bulk streams whose end the client has not sent yet. A browser's `close()` fails when the stream is stopped
/// first, so these wait for it; a client that never ends its streams has the oldest stopped.
const LINGERING_MAX: usize = 2;

/// The streams of one link by lane.
pub(super) struct Lanes {
    control: Slot,
    chat: Slot,
    bulk: Vec<Bulk>,
    /// Opened, but the lane byte has not come.
    fresh: Vec<(SendStream, RecvStream)>,
    /// No longer anybody's lane, with something still to be written.
    leaving: Vec<Out>,
    /// Answered, with an end that is still to come.
    lingering: VecDeque<RecvStream>,
    next_bulk: u32,
    stream_code: fn(CloseCode) -> VarInt,
}

/// A lane that has one stream at a time.
struct Slot {
    out: Option<Out>,
    input: Option<In>,
    /// Who waits for the client to open it.
    waiting: Option<Waker>,
}

/// A stream for one command and its answer.
struct Bulk {
    id: u32,
    out: Out,
    input: Option<In>,
    /// The command came, whole or bad: an answer is owed.
    heard: bool,
}

struct Out {
    stream: SendStream,
    /// What of the last frame the stream has not taken yet.
    pending: Bytes,
}

struct In {
    stream: RecvStream,
    decoder: Decoder,
}

/// What a stream brought.
pub(super) enum Heard {
    Frame { lane: Lane, frame: ClientFrame, bytes: usize },
    Bad { lane: Lane, error: FrameError },
}

impl Lanes {
    pub(super) fn new(stream_code: fn(CloseCode) -> VarInt) -> Self {
        Self {
            control: Slot::new(),
            chat: Slot::new(),
            bulk: Vec::new(),
            fresh: Vec::new(),
            leaving: Vec::new(),
            lingering: VecDeque::new(),
            next_bulk: 0,
            stream_code,
        }
    }

    /// Takes a stream the client has opened. How many there are at once is bounded by what the connection grants.
    pub(super) fn open(&mut self, send: SendStream, recv: RecvStream) {
        self.fresh.push((send, recv));
    }

    /// The next frame, control before chat before bulk.
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        self.sort_fresh(cx);
        self.lingering.retain_mut(|recv| !ended(recv, cx));
        for (lane, slot) in [(Lane::Control, &mut self.control), (Lane::Chat, &mut self.chat)] {
            if let Poll::Ready(Some(read)) = poll_input(&mut slot.input, cx, self.stream_code) {
                return Poll::Ready(read.on(lane));
            }
        }
        let mut at = 0;
        while let Some(bulk) = self.bulk.get_mut(at) {
            match bulk.poll_recv(cx, self.stream_code) {
                Poll::Ready(Some(read)) => return Poll::Ready(read.on(Lane::Bulk(bulk.id))),
                Poll::Ready(None) => {
                    self.bulk.swap_remove(at);
                }
                Poll::Pending => at += 1,
            }
        }
        Poll::Pending
    }

    /// Whether the lane takes a frame. One the client has not opened is pending until it does; a bulk stream that is
    /// gone takes everything and forgets it.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>, lane: Lane) -> Poll<()> {
        let Some(slot) = self.slot(lane) else { return Poll::Ready(()) };
        let written = match &mut slot.out {
            Some(out) => ready!(out.poll_write(cx)),
            None => Err(Gone),
        };
        match written {
            Ok(()) => Poll::Ready(()),
            Err(Gone) => {
                slot.out = None;
                slot.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn start_send(&mut self, lane: Lane, bytes: Bytes) {
        match lane {
            Lane::Control | Lane::Chat => {
                let out = self.slot(lane).and_then(|slot| slot.out.as_mut());
                if let Some(out) = out {
                    debug_assert!(out.pending.is_empty(), "a lane that was not ready");
                    out.pending = bytes;
                }
            }
            Lane::Bulk(id) => {
                let Some(at) = self.bulk.iter().position(|bulk| bulk.id == id) else { return };
                let Bulk { mut out, input, .. } = self.bulk.swap_remove(at);
                out.pending = bytes;
                self.leaving.push(out);
                if let Some(input) = input {
                    self.lingering.push_back(input.stream);
                    if self.lingering.len() > LINGERING_MAX {
                        // Dropping it stops it.
                        self.lingering.pop_front();
                    }
                }
            }
        }
    }

    /// Hands everything that was started to the connection.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut all = true;
        for slot in [&mut self.control, &mut self.chat] {
            match slot.out.as_mut().map(|out| out.poll_write(cx)) {
                None | Some(Poll::Ready(Ok(()))) => {}
                Some(Poll::Ready(Err(Gone))) => slot.out = None,
                Some(Poll::Pending) => all = false,
            }
        }
        self.leaving.retain_mut(|out| match out.poll_write(cx) {
            Poll::Ready(Ok(())) => {
                // An error says that it ended already, which is what is wanted.
                let _ = out.stream.finish();
                false
            }
            Poll::Ready(Err(Gone)) => false,
            Poll::Pending => true,
        });
        if all && self.leaving.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ends the sending side of control and chat. The futures are done when the client has all of it.
    pub(super) fn finish(&mut self) -> Vec<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let mut delivered: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
        for slot in [&mut self.control, &mut self.chat] {
            if let Some(mut out) = slot.out.take() {
                let stopped = out.stream.stopped();
                let _ = out.stream.finish();
                delivered.push(Box::pin(async move {
                    let _ = stopped.await;
                }));
            }
        }
        delivered
    }

    /// Reads the lane byte of streams that have sent it.
    fn sort_fresh(&mut self, cx: &mut Context<'_>) {
        let mut at = 0;
        while let Some((_, recv)) = self.fresh.get_mut(at) {
            let mut byte = [0];
            match recv.poll_read(cx, &mut byte) {
                Poll::Pending => at += 1,
                Poll::Ready(Ok(1)) => {
                    let (send, recv) = self.fresh.swap_remove(at);
                    self.assign(LaneByte::from_byte(byte[0]), send, recv);
                }
                Poll::Ready(Ok(_) | Err(_)) => {
                    self.fresh.swap_remove(at);
                }
            }
        }
    }

    fn assign(&mut self, byte: Option<LaneByte>, send: SendStream, recv: RecvStream) {
        let priority = match byte {
            Some(LaneByte::Control) => 2,
            Some(LaneByte::Chat) => 1,
            Some(LaneByte::Bulk) => -1,
            None => return self.turn_away(send, recv, CloseCode::Malformed),
        };
        // An error says that the client does not want it any more; the first write finds out.
        let _ = send.set_priority(priority);
        let out = Out { stream: send, pending: Bytes::new() };
        let input = In { stream: recv, decoder: Decoder::default() };
        let slot = match byte {
            Some(LaneByte::Control) => &mut self.control,
            Some(LaneByte::Chat) => &mut self.chat,
            Some(LaneByte::Bulk) | None => {
                self.bulk.push(Bulk { id: self.next_bulk, out, input: Some(input), heard: false });
                self.next_bulk = self.next_bulk.wrapping_add(1);
                return;
            }
        };
        if slot.input.is_some() {
            return self.turn_away(out.stream, input.stream, CloseCode::Malformed);
        }
        slot.input = Some(input);
        if let Some(old) = slot.out.replace(out) {
            self.leaving.push(old);
        }
        if let Some(waiting) = slot.waiting.take() {
            waiting.wake();
        }
    }

    fn turn_away(&self, mut send: SendStream, mut recv: RecvStream, code: CloseCode) {
        let code = (self.stream_code)(code);
        // Errors say that the client was faster.
        let _ = send.reset(code);
        let _ = recv.stop(code);
    }

    fn slot(&mut self, lane: Lane) -> Option<&mut Slot> {
        match lane {
            Lane::Control => Some(&mut self.control),
            Lane::Chat => Some(&mut self.chat),
            Lane::Bulk(_) => None,
        }
    }
}

impl Slot {
    fn new() -> Self {
        Self { out: None, input: None, waiting: None }
    }
}

/// The stream takes nothing any more.
struct Gone;

impl Out {
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while !self.pending.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.pending)) {
                Ok(written) => self.pending.advance(written),
                Err(_) => return Poll::Ready(Err(Gone)),
            }
        }
        // What was a slice of a large page is not held any longer.
        self.pending = Bytes::new();
        Poll::Ready(Ok(()))
    }
}

impl Bulk {
    /// The command; `None` when the stream ended without one. What follows a command is no frame of this protocol.
    fn poll_recv(&mut self, cx: &mut Context<'_>, stream_code: fn(CloseCode) -> VarInt) -> Poll<Option<Read>> {
        if self.input.is_none() && self.heard {
            return Poll::Pending;
        }
        match ready!(poll_input(&mut self.input, cx, stream_code)) {
            None if self.heard => Poll::Pending,
            None => Poll::Ready(None),
            Some(Read::Frame { .. }) if self.heard => {
                if let Some(mut input) = self.input.take() {
                    let _ = input.stream.stop(stream_code(CloseCode::Malformed));
                }
                Poll::Ready(Some(Read::Bad(FrameError::Malformed("a second command on a bulk stream".to_owned()))))
            }
            Some(read) => {
                self.heard = true;
                Poll::Ready(Some(read))
            }
        }
    }
}

/// Reads away what comes after a command, until the stream's end.
fn ended(recv: &mut RecvStream, cx: &mut Context<'_>) -> bool {
    loop {
        let read = { pin!(recv.read_chunk(CHUNK_BYTES, true)).poll(cx) };
        match read {
            Poll::Pending => return false,
            Poll::Ready(Ok(Some(_))) => {}
            Poll::Ready(Ok(None) | Err(_)) => return true,
        }
    }
}

/// One step of reading a stream.
enum Read {
    Frame { frame: ClientFrame, bytes: usize },
    Bad(FrameError),
}

impl Read {
    fn on(self, lane: Lane) -> Heard {
        match self {
            Read::Frame { frame, bytes } => Heard::Frame { lane, frame, bytes },
            Read::Bad(error) => Heard::Bad { lane, error },
        }
    }
}

/// Reads the next frame; `None` when the stream ended here or is not there.
fn poll_input(
    input: &mut Option<In>,
    cx: &mut Context<'_>,
    stream_code: fn(CloseCode) -> VarInt,
) -> Poll<Option<Read>> {
    loop {
        let Some(In { stream, decoder }) = input else { return Poll::Ready(None) };
        let before = decoder.buffered();
        match decoder.next::<ClientFrame>() {
            Ok(Some(frame)) => {
                let bytes = before - decoder.buffered();
                return Poll::Ready(Some(Read::Frame { frame, bytes }));
            }
            Err(error) => {
                if error.ends_stream() {
                    let code = match &error {
                        FrameError::TooLarge { .. } => CloseCode::TooLarge,
                        FrameError::BadLength | FrameError::Malformed(_) => CloseCode::Malformed,
                    };
                    let _ = stream.stop(stream_code(code));
                    *input = None;
                }
                return Poll::Ready(Some(Read::Bad(error)));
            }
            Ok(None) => {}
        }
        // Dropping the future loses nothing: the stream keeps the waker.
        let read = { pin!(stream.read_chunk(CHUNK_BYTES, true)).poll(cx) };
        match ready!(read) {
            Ok(Some(chunk)) => decoder.push(&chunk.bytes),
            Ok(None) => {
                let cut = !decoder.is_empty();
                *input = None;
                let error = || Read::Bad(FrameError::Malformed("the stream ended within a frame".to_owned()));
                return Poll::Ready(cut.then(error));
            }
            // Reset by the client, or the connection is gone, which the link hears by itself.
            Err(_) => {
                *input = None;
                return Poll::Ready(None);
            }
        }
    }
}
