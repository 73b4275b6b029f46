//! Who is here, how they are, and who types.

use std::time::Duration;

use veza_client::proto::v1::{Ping, PresenceState, Typing, Unsubscribe, client_frame::Command, push, reply};

use crate::carrier::{Player, Stage, ask};

pub async fn typing_and_presence_reach_the_others(stage: &Stage) {
    let mut alice = stage.player_in("alice", "garden").await;
    let mut bob = stage.player("bob").await;
    bob.join("garden").await.unwrap();
    let joined = |event: &push::Event| match event {
        push::Event::PresenceChanged(changed) if changed.joined.contains(&"bob".to_owned()) => {
            Some(changed.present_total)
        }
        _ => None,
    };
    assert_eq!(alice.hear(joined).await, 2);
    let typing = |event: &push::Event| match event {
        push::Event::TypingChanged(typing) => Some((typing.user.clone(), typing.active)),
        _ => None,
    };
    bob.connection.tell(Command::Typing(Typing { room: "garden".into(), active: true })).await.unwrap();
    assert_eq!(alice.hear(typing).await, ("bob".to_owned(), true));
    let unsubscribe = Unsubscribe { room: "garden".into() };
    assert!(matches!(bob.ask(Command::Unsubscribe(unsubscribe)).await, Ok(reply::Result::Unsubscribed(_))));
    let left = |event: &push::Event| match event {
        push::Event::PresenceChanged(changed) if changed.left == ["bob"] => Some(changed.present_total),
        _ => None,
    };
    assert_eq!(alice.hear(left).await, 1);
    // Who has left hears nothing more of the room.
    alice.publish("garden", "a1", "still here?").await.unwrap();
    assert_eq!(alice.message().await.seq, 1);
    bob.ask(Command::Ping(Ping::default())).await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(200), bob.message()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

/// Nothing said is as good as online.
fn or_online(state: PresenceState) -> PresenceState {
    if state == PresenceState::Unspecified { PresenceState::Online } else { state }
}

/// The next word on how a user is.
async fn status_of(player: &mut Player, user: &str) -> (PresenceState, String) {
    player
        .hear(|event| match event {
            push::Event::PresenceChanged(changed) => {
                let status = changed.statuses.iter().find(|status| status.user == user);
                status.map(|status| (or_online(status.state()), status.text.clone()))
            }
            _ => None,
        })
        .await
}

pub async fn a_status_is_told_and_kept_for_who_comes_later(stage: &Stage) {
    let [mut alice, bob] = stage.in_room("garden", ["alice", "bob"]).await;
    ask!(bob, SetPresence { state: PresenceState::Away, text: "à table 🍲" } => PresenceSet).unwrap();
    assert_eq!(status_of(&mut alice, "bob").await, (PresenceState::Away, "à table 🍲".to_owned()));
    let carol = stage.player("carol").await;
    let statuses = carol.join("garden").await.unwrap().statuses;
    assert_eq!(statuses.len(), 1, "who is simply online is not named: {statuses:?}");
    assert_eq!((statuses[0].user.as_str(), statuses[0].state()), ("bob", PresenceState::Away));
    // A room that is entered later hears it as well, and the word is taken back everywhere.
    let mut attic = stage.player_in("alice", "attic").await;
    bob.join("attic").await.unwrap();
    assert_eq!(status_of(&mut attic, "bob").await.0, PresenceState::Away);
    ask!(bob, SetPresence { state: PresenceState::DoNotDisturb } => PresenceSet).unwrap();
    assert_eq!(status_of(&mut alice, "bob").await, (PresenceState::DoNotDisturb, String::new()));
    ask!(bob, SetPresence { state: PresenceState::Online } => PresenceSet).unwrap();
    assert_eq!(status_of(&mut alice, "bob").await, (PresenceState::Online, String::new()));
    assert!(stage.player("dave").await.join("garden").await.unwrap().statuses.is_empty());
    // It never enters the log.
    assert!(bob.log("garden").await.is_empty());
}
