//! What a welcomed client may ask: checked here, so that a wrong ask never reaches a room.

use std::time::Duration;

use veza_proto::v1::{ClientFrame, Error, ErrorCode, Ping, Pong, RefreshToken, client_frame::Command, reply};
use veza_proto::{CloseCode, Lane, RoomId, limits as wire};

use super::subscription::{State, Subscription};
use super::{Output, Session};
use crate::Timestamp;
use crate::ask::{Ask, Purpose, Ticket};
use crate::check::{at_most, invalid};
use crate::ledger::not_found;
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
            Command::CreateRoom(create) => self.create_room(&ticket, create, now),
            Command::OpenDirect(open) => self.open_direct(&ticket, &open),
            Command::UpdateRoom(update) => self.update_room(&ticket, update, now),
            Command::JoinRoom(join) => self.join_room(&ticket, join),
            Command::LeaveRoom(leave) => self.leave_room(&ticket, &leave),
            Command::Unsubscribe(unsubscribe) => self.unsubscribe(&ticket, &unsubscribe, now),
            Command::SetRole(set) => self.set_role(&ticket, &set, now),
            Command::Moderate(moderate) => self.moderate(&ticket, moderate, now),
            Command::CreateInvite(create) => self.create_invite(&ticket, &create),
            Command::RevokeInvite(revoke) => self.revoke_invite(&ticket, &revoke, now),
            Command::Publish(publish) => self.publish(&ticket, publish),
            Command::EditMessage(edit) => self.edit_message(&ticket, edit),
            Command::DeleteMessage(delete) => self.delete_message(&ticket, delete),
            Command::React(react) => self.react(&ticket, react),
            Command::Pin(pin) => self.pin(&ticket, &pin),
            Command::Mark(mark) => self.mark(&ticket, &mark),
            Command::Typing(typing) => {
                self.typing(&typing, now);
                Ok(())
            }
            Command::SetPresence(set) => self.set_presence(&ticket, set, now),
            Command::History(history) => self.history(&ticket, &history),
            Command::Repair(repair) => self.repair(&ticket, &repair),
            Command::Search(search) => self.search(&ticket, search),
            Command::ListRooms(list) => self.list_rooms(&ticket, list),
            Command::ListMembers(list) => self.list_members(&ticket, &list),
            Command::ListInvites(list) => self.list_invites(&ticket, &list),
            Command::ListAudit(list) => self.list_audit(&ticket, &list),
            Command::ListRevisions(list) => self.list_revisions(&ticket, &list),
            Command::ListReactions(list) => self.list_reactions(&ticket, list),
            Command::ListPins(list) => self.list_pins(&ticket, &list),
            Command::ListUnread(list) => self.list_unread(&ticket, list),
            Command::ListStreams(list) => self.list_streams(&ticket, &list),
            Command::CreateStream(create) => self.create_stream(&ticket, create),
            Command::PublishStream(publish) => self.publish_stream(&ticket, publish),
            Command::EndStream(end) => self.end_stream(&ticket, &end),
            Command::SetPlaying(set) => self.set_playing(&ticket, set),
            Command::Listen(listen) => self.listen_stream(&ticket, &listen),
            Command::Unlisten(unlisten) => self.unlisten_stream(&ticket, &unlisten),
            Command::SetQuality(set) => self.set_quality(&ticket, &set),
            Command::ReceiverReport(report) => {
                self.receiver_report(report, now);
                Ok(())
            }
        };
        if let Err(error) = outcome {
            self.refuse(&ticket, error, now);
        }
    }

    /// Rates, the bound of unanswered commands, and the lane.
    fn may_ask(&mut self, lane: Lane, command: &Command, now: Timestamp) -> Result<(), Error> {
        let wait = match rate_of(command) {
            Rate::None => None,
            Rate::Publish => self.publishes.take(now).err(),
            Rate::Request => self.requests.take(now).err(),
        };
        if let Some(wait) = wait {
            return Err(rate_limited("too many commands", wait));
        }
        if self.asks_in_flight >= ASKS_IN_FLIGHT_MAX {
            return Err(rate_limited("too many commands wait for an answer", Duration::from_millis(100)));
        }
        if matches!(lane, Lane::Bulk(_)) && !bulk_may(command) {
            let message = "a bulk stream carries history, search, repair and lists only";
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

    /// The room, if this session is in it or about to be. A room that is not there and one that is not mine get the same
    /// answer.
    pub(super) fn entered(&self, room: &str) -> Result<RoomId, Error> {
        let id = RoomId::parse(room).map_err(invalid)?;
        if self.subscriptions.contains_key(&id) { Ok(id) } else { Err(not_found()) }
    }

    /// Asks something of a room. A room that has not let this session in yet is asked when it does: a client that comes back
    /// sends what was not acknowledged right behind its hello, and it must neither be lost nor change its order.
    pub(super) fn ask_in(&mut self, room: &RoomId, ticket: Ticket, ask: Ask) {
        match self.subscriptions.get_mut(room) {
            Some(subscription) if !subscription.admitted => {
                self.asks_in_flight += 1;
                subscription.waiting.push((ticket, ask));
            }
            Some(_) | None => self.ask(ticket, ask),
        }
    }

    /// The membership has ended. A join that is under way since then decides for itself.
    pub(super) fn forget_unless_joining(&mut self, room: &RoomId, now: Timestamp) {
        let joining = |subscription: &Subscription| matches!(subscription.state, State::Joining { .. });
        if !self.subscriptions.get(room).is_some_and(joining) {
            self.forget(room, now);
        }
    }

    /// The room has let this session in, which is gone from there: it is told.
    pub(super) fn unlisten(&mut self, room: &RoomId, now: Timestamp) {
        let ticket = Ticket { lane: Lane::Control, id: 0, purpose: Purpose::Forget, since: now };
        self.ask(ticket, Ask::Unsubscribe { room: room.clone() });
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

/// Which quota a command takes from.
enum Rate {
    None,
    Publish,
    Request,
}

fn rate_of(command: &Command) -> Rate {
    match command {
        Command::Ping(_) | Command::Bye(_) | Command::RefreshToken(_) => Rate::None,
        Command::Publish(_)
        | Command::EditMessage(_)
        | Command::DeleteMessage(_)
        | Command::React(_)
        | Command::Pin(_) => Rate::Publish,
        Command::Hello(_)
        | Command::CreateRoom(_)
        | Command::OpenDirect(_)
        | Command::UpdateRoom(_)
        | Command::JoinRoom(_)
        | Command::LeaveRoom(_)
        | Command::Unsubscribe(_)
        | Command::SetRole(_)
        | Command::Moderate(_)
        | Command::CreateInvite(_)
        | Command::RevokeInvite(_)
        | Command::Mark(_)
        | Command::Typing(_)
        | Command::SetPresence(_)
        | Command::History(_)
        | Command::Repair(_)
        | Command::Search(_)
        | Command::ListRooms(_)
        | Command::ListMembers(_)
        | Command::ListInvites(_)
        | Command::ListAudit(_)
        | Command::ListRevisions(_)
        | Command::ListReactions(_)
        | Command::ListPins(_)
        | Command::ListUnread(_)
        | Command::ListStreams(_)
        | Command::CreateStream(_)
        | Command::PublishStream(_)
        | Command::EndStream(_)
        | Command::SetPlaying(_)
        | Command::Listen(_)
        | Command::Unlisten(_)
        | Command::SetQuality(_)
        | Command::ReceiverReport(_) => Rate::Request,
    }
}

/// Reads: what belongs to bulk, and what is small enough to have a lane of its own elsewhere.
fn bulk_may(command: &Command) -> bool {
    let frame = ClientFrame { id: 0, command: Some(command.clone()) };
    matches!(Lane::of(&frame), Lane::Bulk(_)) || matches!(command, Command::ListRooms(_) | Command::Repair(_))
}

fn rate_limited(message: &str, wait: Duration) -> Error {
    let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
    Error::temporary(ErrorCode::RateLimited, message, wait)
}

pub(super) fn page_size(asked: u32, default: u32, max: u32) -> Result<u32, Error> {
    match asked {
        0 => Ok(default),
        asked if asked > max => {
            Err(Error::permanent(ErrorCode::InvalidArgument, format!("limit may be at most {max}, this is {asked}")))
        }
        asked => Ok(asked),
    }
}
