//! Rooms: made, entered, changed and left, and the invitations to them.

use tokio::sync::oneshot;
use veza_proto::v1::client_frame::Command;
use veza_proto::v1::{
    CreateInvite, CreateRoom, Delivery, Invite, LeaveRoom, ListInvites, ListRooms, OpenDirect, RevokeInvite, Room,
    RoomJoined, RoomList, UpdateRoom, reply,
};

use super::{Client, Request};
use crate::error::Error;

impl Client {
    /// Becomes a member of the room and receives it from here on, across reconnects. Joining again changes nothing but
    /// tells the room's state.
    ///
    /// # Errors
    /// [`Error::Refused`] when the server says no, [`Error::Closed`].
    pub async fn join(&self, room: &str, delivery: Delivery) -> Result<RoomJoined, Error> {
        self.join_invited(room, delivery, "").await
    }

    /// [`Client::join`] with the code of an invitation.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn join_invited(&self, room: &str, delivery: Delivery, invite: &str) -> Result<RoomJoined, Error> {
        let (reply, answer) = oneshot::channel();
        let (room, invite) = (room.to_owned(), invite.to_owned());
        self.request(Request::Join { room, delivery, invite, reply }).await?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Ends the membership.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn leave(&self, room: &str) -> Result<(), Error> {
        self.request(Request::Forget { room: room.to_owned() }).await?;
        answer!(self.ask(Command::LeaveRoom(LeaveRoom { room: room.to_owned() })).await?, RoomLeft);
        Ok(())
    }

    /// Creates a public room and becomes its owner.
    ///
    /// # Errors
    /// As [`Client::join`]; `ALREADY_EXISTS` also when a lost link hid that it was created.
    pub async fn create_room(&self, room: &str, title: &str) -> Result<Room, Error> {
        self.create_room_as(CreateRoom { room: room.to_owned(), title: title.to_owned(), ..CreateRoom::default() })
            .await
    }

    /// Creates a room of any kind but a direct one, with its settings.
    ///
    /// # Errors
    /// As [`Client::create_room`].
    pub async fn create_room_as(&self, create: CreateRoom) -> Result<Room, Error> {
        answer!(self.ask(Command::CreateRoom(create)).await?, RoomCreated).room.ok_or(Error::Unexpected)
    }

    /// Changes a room; what is absent stays as it is.
    ///
    /// # Errors
    /// As [`Client::join`]; `PERMISSION_DENIED` without the right to.
    pub async fn update_room(&self, update: UpdateRoom) -> Result<Room, Error> {
        answer!(self.ask(Command::UpdateRoom(update)).await?, RoomUpdated).room.ok_or(Error::Unexpected)
    }

    /// The room of two with this user, made when it is not there. It is still to be joined.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn open_direct(&self, user: &str) -> Result<Room, Error> {
        let open = OpenDirect { user: user.to_owned() };
        answer!(self.ask(Command::OpenDirect(open)).await?, DirectOpened).room.ok_or(Error::Unexpected)
    }

    /// One page of the rooms; pass `next` of the last page as `after`.
    ///
    /// # Errors
    /// As [`Client::join`].
    pub async fn rooms(&self, mine: bool, after: &str) -> Result<RoomList, Error> {
        let list = ListRooms { mine, after: after.to_owned(), limit: 0 };
        Ok(answer!(self.ask(Command::ListRooms(list)).await?, RoomList))
    }

    /// Makes an invitation. Asked again over a lost link it may be made twice; [`Client::invites`] tells.
    ///
    /// # Errors
    /// As [`Client::join`]; `PERMISSION_DENIED` without the right to.
    pub async fn invite(&self, create: CreateInvite) -> Result<Invite, Error> {
        answer!(self.ask(Command::CreateInvite(create)).await?, InviteCreated).invite.ok_or(Error::Unexpected)
    }

    /// The invitations of a room, or (an empty `room`) those that name me.
    ///
    /// # Errors
    /// As [`Client::invite`].
    pub async fn invites(&self, room: &str) -> Result<Vec<Invite>, Error> {
        let list = ListInvites { room: room.to_owned() };
        Ok(answer!(self.ask(Command::ListInvites(list)).await?, InviteList).invites)
    }

    /// Takes back an invitation, named by its code or its user.
    ///
    /// # Errors
    /// As [`Client::invite`]; `NOT_FOUND` also when a lost link hid that it was taken back.
    pub async fn revoke_invite(&self, revoke: RevokeInvite) -> Result<(), Error> {
        answer!(self.ask(Command::RevokeInvite(revoke)).await?, InviteRevoked);
        Ok(())
    }
}
