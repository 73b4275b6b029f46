use crate::v1::ClientFrame;
use crate::v1::client_frame::Command;

/// One of a session's lanes. A stream of QUIC or WebTransport names its lane in its first byte ([`LaneByte`]);
/// on WebSocket all lanes share one connection and differ in priority only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Hello, resume, rooms, errors, pings. One bidirectional stream, the first.
    Control,
    /// Publishes and changes of messages, their acknowledgements and deliveries, in order. One bidirectional stream.
    Chat,
    /// History, search and lists: a bidirectional stream per command, ended by the reply. The number tells open ones apart.
    Bulk(u32),
}

impl Lane {
    /// The lane a command belongs to where one connection carries all of them (WebSocket).
    pub fn of(frame: &ClientFrame) -> Self {
        match &frame.command {
            Some(
                Command::Publish(_)
                | Command::EditMessage(_)
                | Command::DeleteMessage(_)
                | Command::React(_)
                | Command::Pin(_)
                | Command::Repair(_),
            ) => Lane::Chat,
            Some(
                Command::History(_)
                | Command::Search(_)
                | Command::ListMembers(_)
                | Command::ListInvites(_)
                | Command::ListUnread(_)
                | Command::ListRevisions(_)
                | Command::ListReactions(_)
                | Command::ListPins(_)
                | Command::ListAudit(_)
                | Command::ListStreams(_),
            ) => Lane::Bulk(0),
            Some(
                Command::Hello(_)
                | Command::RefreshToken(_)
                | Command::Ping(_)
                | Command::Bye(_)
                | Command::CreateRoom(_)
                | Command::JoinRoom(_)
                | Command::LeaveRoom(_)
                | Command::ListRooms(_)
                | Command::OpenDirect(_)
                | Command::UpdateRoom(_)
                | Command::SetRole(_)
                | Command::Moderate(_)
                | Command::CreateInvite(_)
                | Command::RevokeInvite(_)
                | Command::Mark(_)
                | Command::SetPresence(_)
                | Command::Typing(_)
                | Command::Unsubscribe(_)
                | Command::CreateStream(_)
                | Command::PublishStream(_)
                | Command::EndStream(_)
                | Command::SetPlaying(_)
                | Command::Listen(_)
                | Command::Unlisten(_)
                | Command::SetQuality(_)
                | Command::ReceiverReport(_),
            )
            | None => Lane::Control,
        }
    }
}

/// The first byte of a client-opened stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LaneByte {
    Control = 0,
    Chat = 1,
    Bulk = 2,
}

impl LaneByte {
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(LaneByte::Control),
            1 => Some(LaneByte::Chat),
            2 => Some(LaneByte::Bulk),
            _ => None,
        }
    }
}

/// The first byte of a datagram's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DatagramKind {
    /// One protobuf frame follows, without a length.
    Frame = 1,
    /// A media header and audio frames follow.
    Media = 2,
}

impl DatagramKind {
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(DatagramKind::Frame),
            2 => Some(DatagramKind::Media),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{History, Ping, Publish, Repair};

    #[test]
    fn commands_have_their_lanes() {
        let lane = |command| Lane::of(&ClientFrame { id: 1, command: Some(command) });
        assert_eq!(lane(Command::Publish(Publish::default())), Lane::Chat);
        assert_eq!(lane(Command::Repair(Repair::default())), Lane::Chat);
        assert_eq!(lane(Command::History(History::default())), Lane::Bulk(0));
        assert_eq!(lane(Command::Ping(Ping::default())), Lane::Control);
        assert_eq!(Lane::of(&ClientFrame::default()), Lane::Control);
    }
}
