//! The network between a client and a node: lanes that keep their order and overtake each other, datagrams that get
//! lost, windows, and links that die without a word.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use veza_engine::SessionKey;
use veza_proto::v1::ClientFrame;
use veza_proto::{Encoded, Lane};

use crate::stage::{Event, Life, LinkNo, MS, Stage};

/// What a lane takes before its reader has read something.
const WINDOW_BYTES: usize = 4_096;

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) no: LinkNo,
    pub(crate) client: usize,
    pub(crate) life: Life,
    pub(crate) session: SessionKey,
    pub(crate) quic: bool,
    /// Nothing arrives any more in either direction, and nobody is told.
    pub(crate) cut: bool,
    pub(crate) client_open: bool,
    pub(crate) server_open: bool,
    /// When the last frame of each lane arrives, towards the server and towards the client.
    up: BTreeMap<u32, u64>,
    down: BTreeMap<u32, u64>,
    in_flight: BTreeMap<u32, usize>,
    /// What a client that does not read has been sent.
    unread: Option<VecDeque<(Lane, Bytes)>>,
    /// Of this path, one way.
    delay: u64,
}

impl Link {
    pub(crate) fn open(no: LinkNo, client: usize, life: Life, session: SessionKey, quic: bool, delay: u64) -> Self {
        Self {
            no,
            client,
            life,
            session,
            quic,
            cut: false,
            client_open: true,
            server_open: true,
            up: BTreeMap::new(),
            down: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            unread: None,
            delay,
        }
    }

    pub(crate) fn send_up(&mut self, lane: Lane, frame: ClientFrame, stage: &mut Stage) {
        let at = self.arrival(lane, true, stage);
        stage.at(at, Event::Up { link: self.no, lane, frame: Box::new(frame) });
    }

    pub(crate) fn send_up_datagram(&mut self, frame: ClientFrame, stage: &mut Stage) {
        let delay = self.wander(stage);
        if !stage.chance.per_mille(100) {
            stage.after(delay, Event::UpDatagram { link: self.no, frame: Box::new(frame) });
        }
    }

    /// Whether the lane takes another frame towards the client.
    pub(crate) fn takes(&self, lane: Lane) -> bool {
        self.server_open && self.in_flight.get(&self.number(lane)).is_none_or(|bytes| *bytes < WINDOW_BYTES)
    }

    pub(crate) fn send_down(&mut self, lane: Lane, frame: &Encoded, stage: &mut Stage) {
        if !self.server_open {
            return;
        }
        let bytes = frame.message();
        *self.in_flight.entry(self.number(lane)).or_default() += bytes.len();
        let at = self.arrival(lane, false, stage);
        stage.at(at, Event::Down { link: self.no, lane, frame: bytes });
    }

    /// `false` when the connection has no room for it now.
    pub(crate) fn send_down_datagram(&mut self, frame: &Encoded, stage: &mut Stage) -> bool {
        let Some(bytes) = frame.datagram() else { return false };
        if !self.quic || stage.chance.per_mille(20) {
            return false;
        }
        // The session of WebTransport and the kind stand before the frame.
        let bytes = bytes.slice(2..);
        if !stage.chance.per_mille(60) {
            let delay = self.wander(stage);
            stage.after(delay, Event::DownDatagram { link: self.no, frame: bytes.clone() });
        }
        if stage.chance.per_mille(20) {
            let delay = self.wander(stage) + 5 * MS;
            stage.after(delay, Event::DownDatagram { link: self.no, frame: bytes });
        }
        true
    }

    /// A frame has come to the client: what it is to read now, and whether the lane has room again.
    pub(crate) fn arrived(&mut self, lane: Lane, frame: Bytes) -> Option<Bytes> {
        if self.cut || !self.client_open {
            return None;
        }
        if let Some(unread) = &mut self.unread {
            unread.push_back((lane, frame));
            return None;
        }
        self.read(lane, frame.len());
        Some(frame)
    }

    pub(crate) fn stop_reading(&mut self) {
        self.unread.get_or_insert_default();
    }

    pub(crate) fn read_again(&mut self) -> VecDeque<(Lane, Bytes)> {
        let unread = self.unread.take().unwrap_or_default();
        for (lane, frame) in &unread {
            self.read(*lane, frame.len());
        }
        unread
    }

    /// The server ends the link; the client hears of it behind what was sent on control.
    pub(crate) fn close_down(&mut self, stage: &mut Stage) {
        if self.server_open {
            let at = self.arrival(Lane::Control, false, stage);
            self.server_open = false;
            stage.at(at, Event::Closed { link: self.no });
        }
    }

    /// The client ends the link; the server hears of it, sooner or later.
    pub(crate) fn close_up(&mut self, silently: bool, stage: &mut Stage) {
        if self.client_open {
            self.client_open = false;
            let (least, most) = if silently || self.cut { (500 * MS, 15_000 * MS) } else { (MS, 30 * MS) };
            stage.soon(least, most, Event::Gone { link: self.no });
        }
    }

    fn read(&mut self, lane: Lane, bytes: usize) {
        let number = self.number(lane);
        let in_flight = self.in_flight.entry(number).or_default();
        *in_flight = in_flight.saturating_sub(bytes);
    }

    fn number(&self, lane: Lane) -> u32 {
        match lane {
            Lane::Control => 0,
            Lane::Chat if self.quic => 1,
            Lane::Bulk(stream) if self.quic => 2 + stream,
            Lane::Chat | Lane::Bulk(_) => 0,
        }
    }

    fn arrival(&mut self, lane: Lane, up: bool, stage: &mut Stage) -> u64 {
        let number = self.number(lane);
        let at = stage.now + self.wander(stage);
        let last = if up { &mut self.up } else { &mut self.down }.entry(number).or_default();
        *last = at.max(*last);
        *last
    }

    /// How long this one is on its way: a loss costs a stream a round trip.
    fn wander(&self, stage: &mut Stage) -> u64 {
        let lost = if stage.chance.per_mille(40) { 3 * self.delay + 20 * MS } else { 0 };
        self.delay + stage.chance.below(self.delay / 2 + 200) + lost
    }
}
