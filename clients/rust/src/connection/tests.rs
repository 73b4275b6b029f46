use veza_proto::CloseCode;
use veza_proto::v1::{ErrorCode, JoinRoom, Ping, Publish};

use super::*;
use crate::peer::{Peer, ROOM, Whim};

async fn open(peer: &Peer, format: Format) -> (Connection, Pushes) {
    let hello = Hello { token: "token".into(), ..Hello::default() };
    Connection::open(&Peer::endpoints(), &peer.target, hello, &Peer::options(format)).await.unwrap()
}

fn publish(body: &str) -> Command {
    Command::Publish(Publish { room: ROOM.into(), cmid: body.into(), body: body.into(), ..Publish::default() })
}

#[tokio::test]
async fn hello_join_publish_deliver_in_both_formats() {
    for format in [Format::Proto, Format::Json] {
        let peer = Peer::start().await;
        let (connection, mut pushes) = open(&peer, format).await;
        assert_eq!(connection.welcome().user, "alice");
        assert_eq!(connection.transport(), Transport::WebSocket);
        let join = Command::JoinRoom(JoinRoom { room: ROOM.into(), ..JoinRoom::default() });
        assert!(matches!(connection.command(join).await, Ok(reply::Result::RoomJoined(_))));
        assert!(matches!(connection.command(publish("one")).await, Ok(reply::Result::Published(_))));
        let Ok(push::Event::Message(delivered)) = pushes.next().await else { panic!("a message") };
        assert_eq!(delivered.message.unwrap().body, "one");
        connection.bye().await;
        assert_eq!(pushes.next().await.unwrap_err().code, Some(CloseCode::Normal));
    }
}

#[tokio::test]
async fn a_refused_hello_says_why() {
    let peer = Peer::start().await;
    peer.whim(Whim::RefuseHello(ErrorCode::Unauthenticated));
    let options = Peer::options(Format::Proto);
    let refused = Connection::open(&Peer::endpoints(), &peer.target, Hello::default(), &options).await;
    assert!(refused.is_err_and(|error| error.is(ErrorCode::Unauthenticated)));
}

#[tokio::test]
async fn nobody_there_is_an_error_of_connecting() {
    let target = Target { websocket: Some("ws://127.0.0.1:9/ws".into()), ..Target::default() };
    let options = Peer::options(Format::Proto);
    let refused = Connection::open(&Peer::endpoints(), &target, Hello::default(), &options).await;
    assert!(matches!(refused.err(), Some(Error::Connect(_))));
}

#[tokio::test]
async fn a_lost_link_answers_every_waiting_command() {
    let peer = Peer::start().await;
    let (connection, mut pushes) = open(&peer, Format::Proto).await;
    let join = Command::JoinRoom(JoinRoom { room: ROOM.into(), ..JoinRoom::default() });
    connection.command(join).await.unwrap();
    peer.whim(Whim::LoseTheAcknowledgement);
    let answer = connection.command(publish("lost")).await;
    assert!(matches!(answer, Err(Error::Ended(_))), "{answer:?}");
    assert!(pushes.next().await.is_err());
    assert!(matches!(connection.command(Command::Ping(Ping::default())).await, Err(Error::Ended(_))));
}

#[tokio::test]
async fn pushes_that_nobody_reads_stop_the_link_and_reading_them_frees_it() {
    let peer = Peer::start().await;
    let hello = Hello { token: "token".into(), ..Hello::default() };
    let options = Options { pushes: 1, ..Peer::options(Format::Proto) };
    let (connection, mut pushes) = Connection::open(&Peer::endpoints(), &peer.target, hello, &options).await.unwrap();
    let join = Command::JoinRoom(JoinRoom { room: ROOM.into(), ..JoinRoom::default() });
    connection.command(join).await.unwrap();
    for body in ["one", "two", "three"] {
        peer.say(body);
    }
    for body in ["one", "two", "three"] {
        let Ok(push::Event::Message(delivered)) = pushes.next().await else { panic!("a message") };
        assert_eq!(delivered.message.unwrap().body, body);
    }
    drop(pushes);
    peer.say("unread");
    assert!(matches!(connection.command(Command::Ping(Ping::default())).await, Ok(reply::Result::Pong(_))));
}
