//! What the server says to a client.

use bytes::Bytes;
use prost::Message as _;
use veza_history::{Event as Told, Page, View as Shown, digest, is_definite};
use veza_proto::v1::{
    ErrorCode, Message, Push, RefreshToken, Reply, ServerFrame, client_frame::Command, push, reply, room_resumed,
    server_frame,
};

use super::{Client, Reach, Waiting};
use crate::stage::{Alarm, Event, LinkNo, MS};

impl Client {
    /// A frame came in on a link.
    pub(crate) fn hear(&mut self, link: LinkNo, frame: &Bytes, reach: &mut Reach<'_>) {
        if self.link != Some(link) {
            return;
        }
        let frame = ServerFrame::decode(frame.clone()).expect("the server's frames can be read");
        match frame.frame {
            Some(server_frame::Frame::Reply(reply)) => self.replied(reply, reach),
            Some(server_frame::Frame::Push(Push { event: Some(event) })) => self.pushed(event, reach),
            Some(server_frame::Frame::Push(Push { event: None })) | None => panic!("an empty frame"),
        }
    }

    fn replied(&mut self, reply: Reply, reach: &mut Reach<'_>) {
        let Some(waiting) = self.waiting.remove(&reply.id) else { return };
        let result = reply.result.expect("a reply says something");
        match (waiting, result) {
            (waiting, reply::Result::Error(error)) => {
                assert!(
                    error.code() != ErrorCode::Internal && error.code() != ErrorCode::WrongLane,
                    "{waiting:?} is answered with {error:?}"
                );
                self.error(waiting, &error, reach);
            }
            (Waiting::Hello { asked, cursors }, reply::Result::Welcome(welcome)) => {
                self.welcome = true;
                self.resume = welcome.resume_token;
                let transport = welcome.transport;
                self.tell(Told::Connected { user: welcome.user, transport }, reach.stage);
                // The verdicts come as pushes.
                self.waiting.insert(0, Waiting::Hello { asked, cursors: cursors.clone() });
                for (room, place) in &mut self.places {
                    place.asking = cursors.contains_key(room).then_some(asked);
                    place.asks += u32::from(place.asking.is_some());
                }
                let unknown: Vec<String> = self
                    .places
                    .iter()
                    .filter(|(room, place)| place.wanted && !cursors.contains_key(*room))
                    .map(|(room, _)| room.clone())
                    .collect();
                unknown.iter().for_each(|room| self.join(room, reach));
                self.flush(reach);
            }
            (Waiting::Join { room, asked, cursor }, reply::Result::RoomJoined(joined)) => {
                self.joined(&room, &joined, asked, cursor, reach);
            }
            (Waiting::Leave(room), reply::Result::RoomLeft(_)) => {
                self.places.entry(room.clone()).or_default().leave();
                self.tell(Told::Left { room }, reach.stage);
            }
            (Waiting::Unsubscribe(room), reply::Result::Unsubscribed(_)) => {
                self.tell(Told::Left { room }, reach.stage);
            }
            (Waiting::Say { cmid, call }, reply::Result::Published(published)) => {
                self.published(&cmid, call, &published, reach);
            }
            (Waiting::Read { call, view, anchor }, reply::Result::HistoryPage(page)) => {
                let page = Page {
                    view,
                    anchor,
                    epoch: page.epoch,
                    head: page.head,
                    first_available: page.first_available,
                    more_after: page.more_after,
                    entries: page.messages.iter().map(Into::into).collect(),
                };
                self.tell(Told::Page { call, page }, reach.stage);
            }
            (Waiting::Repair { call, room, anchor }, reply::Result::Repaired(repaired)) => {
                let page = Page {
                    view: Shown::Everything,
                    anchor,
                    epoch: repaired.epoch,
                    head: repaired.head,
                    first_available: 0,
                    more_after: false,
                    entries: repaired.messages.iter().map(Into::into).collect(),
                };
                self.tell(Told::Page { call, page }, reach.stage);
                let Some(place) = self.places.get_mut(&room) else { return };
                place.repairing = false;
                if place.log.settled && place.log.epoch == repaired.epoch {
                    let applied = place.log.repaired(repaired.messages, repaired.head);
                    self.apply(&room, applied, reach.stage);
                }
                self.watch(&room, reach.stage);
            }
            (Waiting::Moderate { room, user, asked, removes }, reply::Result::MemberUpdated(_)) => {
                if removes {
                    self.tell(Told::Removed { room, user, asked }, reach.stage);
                }
            }
            (Waiting::Other, reply::Result::InviteCreated(created)) => {
                let invite = created.invite.unwrap_or_default();
                reach.codes.push((invite.room, invite.code));
            }
            (Waiting::Other, reply::Result::RoomCreated(created)) => {
                let room = created.room.unwrap_or_default().id;
                self.want(&room, reach);
            }
            (Waiting::Other, reply::Result::DirectOpened(opened)) => {
                let room = opened.room.unwrap_or_default().id;
                self.want(&room, reach);
            }
            (Waiting::Other, _) => {}
            (waiting, result) => panic!("{waiting:?} is answered with {result:?}"),
        }
    }

    fn error(&mut self, waiting: Waiting, error: &veza_proto::v1::Error, reach: &mut Reach<'_>) {
        match waiting {
            Waiting::Join { room, asked, .. } => {
                let place = self.places.entry(room.clone()).or_default();
                if place.asking != Some(asked) {
                    return;
                }
                place.asking = None;
                if error.temporary && error.code() != ErrorCode::Banned {
                    reach.stage.after(300 * MS, Event::Alarm(self.no, Alarm::Rejoin(room)));
                } else {
                    place.leave();
                }
                self.flush(reach);
            }
            Waiting::Say { cmid, call } => self.refused(&cmid, call, error, reach),
            Waiting::Repair { room, .. } => {
                let Some(place) = self.places.get_mut(&room) else { return };
                place.repairing = false;
                if error.temporary {
                    reach.stage.after(300 * MS, Event::Alarm(self.no, Alarm::Repair(room)));
                } else if place.wanted {
                    reach.stage.after(50 * MS, Event::Alarm(self.no, Alarm::Rejoin(room)));
                }
            }
            Waiting::Unsubscribe(room) => self.tell(Told::Left { room }, reach.stage),
            Waiting::Moderate { room, user, asked, removes } => {
                // A kick that may have happened is one that a second try finds done.
                debug_assert!(asked <= reach.stage.now && !(removes && room.is_empty() && user.is_empty()));
                debug_assert!(is_definite(error.code()) || error.temporary);
            }
            // Refused, the client is in the room as before; carried out all the same, it is told so.
            Waiting::Leave(_) | Waiting::Hello { .. } | Waiting::Read { .. } | Waiting::Other => {}
        }
    }

    fn pushed(&mut self, event: push::Event, reach: &mut Reach<'_>) {
        match event {
            push::Event::Message(delivered) => {
                self.delivered(delivered.message.expect("a delivery has a message"), reach);
            }
            push::Event::RoomResumed(resumed) => {
                let room = resumed.room;
                let (asked, cursor) = match self.waiting.get(&0) {
                    Some(Waiting::Hello { asked, cursors }) => (*asked, cursors.get(&room).copied().flatten()),
                    Some(_) | None => panic!("a room is resumed without a hello"),
                };
                match resumed.result {
                    Some(room_resumed::Result::Joined(joined)) => self.joined(&room, &joined, asked, cursor, reach),
                    Some(room_resumed::Result::Error(error)) => {
                        let asked = Waiting::Join { room, asked, cursor };
                        self.error(asked, &error, reach);
                    }
                    None => panic!("a room is resumed without a result"),
                }
            }
            push::Event::RoomHead(head) => {
                if let Some(place) = self.places.get_mut(&head.room)
                    && place.log.settled
                    && place.log.epoch == head.epoch
                {
                    place.log.head = place.log.head.max(head.head);
                    self.watch(&head.room, reach.stage);
                }
            }
            push::Event::RoomLagging(lagging) => {
                let (room, epoch, last_delivered) = (lagging.room, lagging.epoch, lagging.last_delivered);
                self.tell(Told::Lagging { room: room.clone(), epoch, last_delivered }, reach.stage);
                let Some(place) = self.places.get_mut(&room) else { return };
                place.lagging = true;
                place.log.head = place.log.head.max(last_delivered + 1);
                // Either way is good: to ask anew where it stands, or to repair until the head is reached.
                let again = !place.log.settled || reach.stage.chance.per_mille(500);
                let alarm = if again { Alarm::Rejoin(room) } else { Alarm::Repair(room) };
                reach.stage.after(50 * MS, Event::Alarm(self.no, alarm));
            }
            push::Event::RoomEvicted(evicted) => {
                self.tell(Told::Evicted { room: evicted.room.clone() }, reach.stage);
                self.places.entry(evicted.room).or_default().leave();
            }
            push::Event::TypingChanged(typing) => {
                let what = veza_history::Volatile::Typing;
                self.tell(Told::HeardVolatile { room: typing.room, user: typing.user, what }, reach.stage);
            }
            push::Event::PresenceChanged(presence) => {
                for status in presence.statuses.iter().filter(|status| !status.text.is_empty()) {
                    let what = veza_history::Volatile::Presence(digest(&status.text));
                    let (room, user) = (presence.room.clone(), status.user.clone());
                    self.tell(Told::HeardVolatile { room, user, what }, reach.stage);
                }
            }
            push::Event::TokenExpiring(_) => {
                let token = reach.token.clone();
                self.send(Command::RefreshToken(RefreshToken { token }), Waiting::Other, reach);
            }
            push::Event::Reconnect(_)
            | push::Event::Closing(_)
            | push::Event::RoomChanged(_)
            | push::Event::ReceiptsChanged(_)
            | push::Event::StreamChanged(_)
            | push::Event::QualityChanged(_)
            | push::Event::IngestReport(_) => {}
        }
    }

    fn delivered(&mut self, message: Message, reach: &mut Reach<'_>) {
        let room = message.room.clone();
        let (raw_transport, now) = (!self.quic, reach.stage.now);
        let place = self.places.entry(room.clone()).or_default();
        let (settled, loose) = (place.log.settled, place.is_loose());
        // Deliveries of an earlier subscription may come by another stream than the verdict, and twice.
        let listens = settled && (raw_transport || place.asks < 2);
        let raw = if place.wanted { listens } else { place.joins > 0 };
        if raw {
            let entry = (&message).into();
            let told = Told::Delivered { room: room.clone(), entry, loose };
            reach.stage.journal.write(now, &self.name, told);
        }
        if !place.wanted {
            return;
        }
        let applied = place.log.deliver(message, raw);
        self.apply(&room, applied, reach.stage);
        self.watch(&room, reach.stage);
    }
}
