//! What a welcomed client may ask: checked here, so that a wrong ask never reaches a room.

use std::time::Duration;

use veza_proto::v1::{
    CreateRoom, Error, ErrorCode, History, JoinRoom, LeaveRoom, ListRooms, Ping, Pong, Publish, RefreshToken, Repair,
    Typing, Unsubscribe, client_frame::Command, history::Anchor, reply,
};
use veza_proto::{CloseCode, Cmid, InvalidId, Lane, RoomId, limits as wire};

use super::subscription::{Cursor, Subscription};
use super::{Output, Session, delivery_of};
use crate::Timestamp;
use crate::ask::{Ask, Purpose, Ticket};
use crate::limits::ASKS_IN_FLIGHT_MAX;

impl Session {
    pub(super) fn command(&mut self, ticket: Ticket, command: Command, now: Timestamp) {
        if let Err(error) = self.may_ask(ticket.lane, &command, now) {
            self.refuse(&ticket, error, now);
            return;
        }
        let outcome = match command {
            Command::Hello(_) => Err(Error::permanent(ErrorCode::OutOfOrder, "hello was said already")),
            Command::Ping(ping) => {
                self.ping(&ticket, ping, now);
                Ok(())
            }
            Command::Bye(_) => {
                self.close(CloseCode::Normal, "bye", now);
                Ok(())
            }
            Command::RefreshToken(refresh) => self.refresh(&ticket, refresh),
            Command::CreateRoom(create) => self.create_room(&ticket, create),
            Command::JoinRoom(join) => self.join_room(&ticket, join),
            Command::LeaveRoom(leave) => self.leave_room(&ticket, leave, now),
            Command::Unsubscribe(unsubscribe) => self.unsubscribe(&ticket, unsubscribe, now),
            Command::ListRooms(list) => self.list_rooms(&ticket, list),
            Command::Publish(publish) => self.publish(&ticket, publish, now),
            Command::History(history) => self.history(&ticket, history),
            Command::Repair(repair) => self.repair(&ticket, repair),
            Command::Typing(typing) => {
                self.typing(typing, now);
                Ok(())
            }
        };
        if let Err(error) = outcome {
            self.refuse(&ticket, error, now);
        }
    }

    /// Rates, the bound of unanswered commands, and the lane.
    fn may_ask(&mut self, lane: Lane, command: &Command, now: Timestamp) -> Result<(), Error> {
        let wait = match command {
            Command::Ping(_) | Command::Bye(_) | Command::RefreshToken(_) => None,
            Command::Publish(_) => self.publishes.take(now).err(),
            Command::Hello(_)
            | Command::CreateRoom(_)
            | Command::JoinRoom(_)
            | Command::LeaveRoom(_)
            | Command::Unsubscribe(_)
            | Command::ListRooms(_)
            | Command::History(_)
            | Command::Repair(_)
            | Command::Typing(_) => self.requests.take(now).err(),
        };
        if let Some(wait) = wait {
            return Err(rate_limited("too many commands", wait));
        }
        if self.asks_in_flight >= ASKS_IN_FLIGHT_MAX {
            return Err(rate_limited("too many commands wait for an answer", Duration::from_millis(100)));
        }
        let bulk_may = matches!(command, Command::History(_) | Command::ListRooms(_) | Command::Repair(_));
        if matches!(lane, Lane::Bulk(_)) && !bulk_may {
            let message = "a bulk stream carries history, list_rooms and repair only";
            return Err(Error::permanent(ErrorCode::WrongLane, message));
        }
        Ok(())
    }

    fn ping(&mut self, ticket: &Ticket, ping: Ping, now: Timestamp) {
        let pong = Pong { client_time_ms: ping.client_time_ms, server_time_ms: now.as_millis() };
        self.reply(ticket, reply::Result::Pong(pong), now);
    }

    fn refresh(&mut self, ticket: &Ticket, refresh: RefreshToken) -> Result<(), Error> {
        at_most("token", refresh.token.len(), wire::TOKEN_BYTES_MAX)?;
        self.outputs.push_back(Output::Refresh { ticket: ticket.clone(), token: refresh.token });
        Ok(())
    }

    fn create_room(&mut self, ticket: &Ticket, create: CreateRoom) -> Result<(), Error> {
        let room = RoomId::parse(&create.room).map_err(invalid)?;
        let title = if create.title.is_empty() { create.room } else { create.title };
        at_most("title", title.len(), wire::ROOM_TITLE_BYTES_MAX)?;
        if title.chars().any(char::is_control) {
            return Err(Error::permanent(ErrorCode::InvalidArgument, "title may not hold control characters"));
        }
        self.ask(ticket.clone(), Ask::CreateRoom { room, title });
        Ok(())
    }

    fn join_room(&mut self, ticket: &Ticket, join: JoinRoom) -> Result<(), Error> {
        let room = RoomId::parse(&join.room).map_err(invalid)?;
        if !self.subscriptions.contains_key(&room) && self.subscriptions.len() >= self.settings.rooms_max {
            let message = format!("a connection may be in {} rooms", self.settings.rooms_max);
            return Err(Error::permanent(ErrorCode::Limit, message));
        }
        let (cursor, delivery) = (join.cursor.as_ref().and_then(Cursor::of), delivery_of(join.delivery));
        let datagrams = self.profile.datagrams;
        self.subscriptions
            .entry(room.clone())
            .and_modify(|subscription| subscription.rejoin(cursor, delivery, datagrams))
            .or_insert_with(|| Subscription::joining(cursor, delivery, datagrams));
        self.ask(Ticket { purpose: Purpose::Join { room: room.clone() }, ..ticket.clone() }, Ask::Join { room });
        Ok(())
    }

    fn leave_room(&mut self, ticket: &Ticket, leave: LeaveRoom, now: Timestamp) -> Result<(), Error> {
        let room = RoomId::parse(&leave.room).map_err(invalid)?;
        self.forget(&room, now);
        self.ask(Ticket { purpose: Purpose::Leave { room: room.clone() }, ..ticket.clone() }, Ask::Leave { room });
        Ok(())
    }

    fn unsubscribe(&mut self, ticket: &Ticket, unsubscribe: Unsubscribe, now: Timestamp) -> Result<(), Error> {
        let room = RoomId::parse(&unsubscribe.room).map_err(invalid)?;
        self.forget(&room, now);
        let purpose = Purpose::Unsubscribe { room: room.clone() };
        self.ask(Ticket { purpose, ..ticket.clone() }, Ask::Unsubscribe { room });
        Ok(())
    }

    fn list_rooms(&mut self, ticket: &Ticket, list: ListRooms) -> Result<(), Error> {
        let limit = page_size(list.limit, wire::HISTORY_PAGE_DEFAULT, wire::ROOM_LIST_PAGE_MAX)?;
        at_most("after", list.after.len(), wire::ROOM_ID_BYTES_MAX)?;
        let after = (!list.after.is_empty()).then_some(list.after);
        self.ask(ticket.clone(), Ask::ListRooms { mine: list.mine, after, limit });
        Ok(())
    }

    fn publish(&mut self, ticket: &Ticket, publish: Publish, now: Timestamp) -> Result<(), Error> {
        let room = self.entered(&publish.room)?;
        let cmid = Cmid::parse(&publish.cmid).map_err(invalid)?;
        if publish.body.is_empty() {
            return Err(Error::permanent(ErrorCode::InvalidArgument, "body must not be empty"));
        }
        if publish.body.len() > wire::BODY_BYTES_MAX {
            let message = format!("body may have {} bytes, this has {}", wire::BODY_BYTES_MAX, publish.body.len());
            return Err(Error::permanent(ErrorCode::TooLarge, message));
        }
        debug_assert!(now >= ticket.since, "time does not go back");
        self.ask_in(&room.clone(), ticket.clone(), Ask::Publish { room, cmid, body: publish.body });
        Ok(())
    }

    fn history(&mut self, ticket: &Ticket, history: History) -> Result<(), Error> {
        let room = self.entered(&history.room)?;
        let limit = page_size(history.limit, wire::HISTORY_PAGE_DEFAULT, wire::HISTORY_PAGE_MAX)?;
        let (forward, ask) = match history.anchor {
            Some(Anchor::AfterSeq(after)) => (true, Ask::ReadAfter { room: room.clone(), after, limit }),
            Some(Anchor::BeforeSeq(0)) | None => {
                (false, Ask::ReadBefore { room: room.clone(), before: u64::MAX, limit })
            }
            Some(Anchor::BeforeSeq(before)) => (false, Ask::ReadBefore { room: room.clone(), before, limit }),
        };
        let purpose = Purpose::History { room: room.clone(), forward };
        self.ask_in(&room, Ticket { purpose, ..ticket.clone() }, ask);
        Ok(())
    }

    fn repair(&mut self, ticket: &Ticket, repair: Repair) -> Result<(), Error> {
        let room = self.entered(&repair.room)?;
        let up_to = if repair.up_to_seq == 0 { u64::MAX } else { repair.up_to_seq };
        if up_to <= repair.after_seq {
            return Err(Error::permanent(ErrorCode::InvalidArgument, "up_to_seq must be greater than after_seq"));
        }
        let limit = (up_to - repair.after_seq).min(u64::from(wire::HISTORY_PAGE_MAX));
        let limit = u32::try_from(limit).unwrap_or(wire::HISTORY_PAGE_MAX);
        let purpose = Purpose::Repair { epoch: repair.epoch, after: repair.after_seq, up_to };
        let ask = Ask::ReadAfter { room: room.clone(), after: repair.after_seq, limit };
        self.ask_in(&room, Ticket { purpose, ..ticket.clone() }, ask);
        Ok(())
    }

    /// Volatile: a room this session is not in, or one too many, is silently nothing.
    pub(super) fn typing(&mut self, typing: Typing, now: Timestamp) {
        if let Ok(room) = self.entered(&typing.room)
            && self.subscriptions.get(&room).is_some_and(|subscription| subscription.admitted)
        {
            let ask = Ask::Typing { room, active: typing.active };
            let ticket = Ticket { lane: Lane::Control, id: 0, purpose: Purpose::Command, since: now };
            self.outputs.push_back(Output::Ask { ticket, ask });
        }
    }

    /// The room, if this session is in it or about to be. A room that is not there and one that is not mine get the same
    /// answer.
    fn entered(&self, room: &str) -> Result<RoomId, Error> {
        let id = RoomId::parse(room).map_err(invalid)?;
        if self.subscriptions.contains_key(&id) { Ok(id) } else { Err(not_found()) }
    }

    /// Asks something of a room. A room that has not let this session in yet is asked when it does: a client that comes back
    /// sends what was not acknowledged right behind its hello, and it must neither be lost nor change its order.
    fn ask_in(&mut self, room: &RoomId, ticket: Ticket, ask: Ask) {
        match self.subscriptions.get_mut(room) {
            Some(subscription) if !subscription.admitted => {
                self.asks_in_flight += 1;
                subscription.waiting.push((ticket, ask));
            }
            Some(_) | None => self.ask(ticket, ask),
        }
    }

    /// The room is this session's no more: what waited for it is refused.
    pub(super) fn forget(&mut self, room: &RoomId, now: Timestamp) {
        let waiting = self.subscriptions.remove(room).map(|subscription| subscription.waiting).unwrap_or_default();
        self.lanes.drop_room(room);
        for (ticket, _) in waiting {
            self.asks_in_flight = self.asks_in_flight.saturating_sub(1);
            self.refuse(&ticket, not_found(), now);
        }
    }
}

/// The one answer for a room that is not there and a room that is not the asker's.
pub fn not_found() -> Error {
    Error::permanent(ErrorCode::NotFound, "no such room, or you are not in it")
}

fn invalid(error: InvalidId) -> Error {
    Error::permanent(ErrorCode::InvalidArgument, error.to_string())
}

fn at_most(what: &str, len: usize, max: usize) -> Result<(), Error> {
    if len > max {
        let message = format!("{what} may have {max} bytes, this has {len}");
        return Err(Error::permanent(ErrorCode::InvalidArgument, message));
    }
    Ok(())
}

fn page_size(asked: u32, default: u32, max: u32) -> Result<u32, Error> {
    match asked {
        0 => Ok(default),
        asked if asked > max => {
            Err(Error::permanent(ErrorCode::InvalidArgument, format!("limit may be at most {max}, this is {asked}")))
        }
        asked => Ok(asked),
    }
}

fn rate_limited(message: &str, wait: Duration) -> Error {
    let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
    Error::temporary(ErrorCode::RateLimited, message, wait)
}
