//! What every bus keeps. A suite is one line: `suite!(memory, MemoryBus::new())`.

use tokio::sync::broadcast::error::RecvError;
use veza_proto::v1::Message;
use veza_proto::{RoomId, UserId};

use super::{ANNOUNCEMENTS_MAX, Announced, Announcement, Bus, MemoryBus};

macro_rules! suite {
    ($implementation:ident, $open:expr) => {
        mod $implementation {
            use super::*;

            #[tokio::test]
            async fn everyone_hears_everything_in_order() {
                super::everyone_hears_everything_in_order(&$open).await;
            }

            #[tokio::test]
            async fn nothing_is_heard_from_before() {
                super::nothing_is_heard_from_before(&$open).await;
            }

            #[tokio::test]
            async fn nobody_listening_is_no_error() {
                super::nobody_listening_is_no_error(&$open).await;
            }

            #[tokio::test]
            async fn a_slow_receiver_learns_that_it_missed_some() {
                super::a_slow_receiver_learns_that_it_missed_some(&$open).await;
            }

            #[tokio::test]
            async fn a_bus_says_that_it_is_well() {
                assert!(!$open.check().await.unwrap().is_empty());
            }
        }
    };
}

suite!(memory, MemoryBus::new());

fn message(node: u64, seq: u64) -> Announcement {
    let message = Message { room: "lobby".into(), epoch: 1, seq, body: "hello".into(), ..Message::default() };
    Announcement { node, event: Announced::Message(message) }
}

fn typing(node: u64) -> Announcement {
    let (room, user) = (RoomId::parse("lobby").unwrap(), UserId::parse("alice").unwrap());
    Announcement { node, event: Announced::Typing { room, user, active: true } }
}

/// Two nodes on one bus: each hears the other and itself, and knows which is which.
async fn everyone_hears_everything_in_order(bus: &impl Bus) {
    let (mut first, mut second) = (bus.subscribe(), bus.subscribe());
    for said in [message(1, 1), typing(2), message(1, 2)] {
        bus.publish(said);
    }
    for receiver in [&mut first, &mut second] {
        assert_eq!(receiver.recv().await.unwrap(), message(1, 1));
        assert_eq!(receiver.recv().await.unwrap(), typing(2));
        assert_eq!(receiver.recv().await.unwrap(), message(1, 2));
    }
}

async fn nothing_is_heard_from_before(bus: &impl Bus) {
    let _early = bus.subscribe();
    bus.publish(message(1, 1));
    let mut late = bus.subscribe();
    bus.publish(message(1, 2));
    assert_eq!(late.recv().await.unwrap(), message(1, 2));
}

async fn nobody_listening_is_no_error(bus: &impl Bus) {
    bus.publish(message(1, 1));
    drop(bus.subscribe());
    bus.publish(message(1, 2));
}

/// At the bound nothing is lost; one past it the receiver is told, and goes on with what is left.
async fn a_slow_receiver_learns_that_it_missed_some(bus: &impl Bus) {
    let bound = ANNOUNCEMENTS_MAX as u64;
    let mut slow = bus.subscribe();
    for seq in 1..=bound {
        bus.publish(message(1, seq));
    }
    assert_eq!(slow.recv().await.unwrap(), message(1, 1));

    for seq in bound + 1..=bound + 2 {
        bus.publish(message(1, seq));
    }
    assert_eq!(slow.recv().await.unwrap_err(), RecvError::Lagged(1));
    assert_eq!(slow.recv().await.unwrap(), message(1, 3));
}
