//! SIGTERM: everybody is told to go, nobody new is let in, nothing that was said is left unanswered, and the end comes in time.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use veza_client::proto::CloseCode;
use veza_client::proto::v1::{Hello, push};

use crate::carrier::{Carrier, Player, Stage};
use crate::server::{Answer, Process, Start, get};

/// For a step that takes no time by itself, on a busy machine.
const PROMPTLY: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_sends_everybody_away_and_answers_what_was_said() {
    let mut stage = talkative(Start::new()).await;
    let token = stage.token("late").await;
    let mut players = three(&mut stage).await;

    // The signal comes while a burst of each is under way.
    let signal = async {
        tokio::time::sleep(Duration::from_millis(3)).await;
        stage.process.terminate();
        Instant::now()
    };
    let (bursts, told) = tokio::join!(join_all(players.iter().map(burst)), signal);
    for answers in bursts {
        assert_eq!(answers.len(), BURST);
        assert!(answers.iter().all(Result::is_ok), "left without an answer, or refused: {answers:?}");
    }
    for player in &mut players {
        let after_ms = player.hear(reconnect).await;
        assert!(after_ms <= 1_000, "three sessions need no spread of {after_ms} ms");
    }

    // Balancers are told; the cluster is not, for it would cut the sessions' UDP.
    assert_eq!(stage.process.get("/lbz").status, 503);
    let ready = stage.process.get("/health/ready");
    assert!(ready.status == 200 && ready.body.contains("closed: draining"), "{ready:?}");
    assert_eq!(stage.process.get("/health/live").status, 200);
    let refused = upgrade(&stage.process);
    assert!(refused.status == 503 && refused.head.contains("\r\nretry-after: "), "{refused:?}");
    for carrier in [Carrier::WebTransport, Carrier::Quic, Carrier::WebSocketProto] {
        stage.carrier = carrier;
        let late = stage.try_hello(Hello { token: token.clone(), ..Hello::default() }).await;
        assert!(matches!(late, Err(veza_client::Error::Connect(_))), "{carrier:?} let somebody in");
    }

    // Who goes as told ends the wait.
    join_all(players.into_iter().map(|player| player.connection.bye())).await;
    assert_eq!(stage.process.wait(PROMPTLY), Some(0));
    assert!(told.elapsed() < Duration::from_secs(10), "it took {:?}", told.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stays_is_closed_within_the_grace() {
    let mut stage = talkative(Start::new().variable("VEZA_DRAIN_GRACE_SECONDS", 6)).await;
    let players = three(&mut stage).await;
    stage.process.terminate();
    let told = Instant::now();
    for player in players {
        let ended = player.end().await;
        assert_eq!(ended.code, Some(CloseCode::Draining), "{ended}");
        assert!(ended.retry_after > Duration::ZERO, "{ended}");
    }
    assert_eq!(stage.process.wait(Duration::from_secs(6).saturating_sub(told.elapsed())), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_shortens_the_wait() {
    let mut stage = talkative(Start::new().variable("VEZA_DRAIN_GRACE_SECONDS", 120)).await;
    let mut players = three(&mut stage).await;
    stage.process.terminate();
    for player in &mut players {
        player.hear(reconnect).await;
    }
    let told_again = Instant::now();
    stage.process.terminate();
    for player in players {
        let ended = player.end().await;
        assert_eq!(ended.code, Some(CloseCode::Draining), "{ended}");
    }
    assert_eq!(stage.process.wait(PROMPTLY.saturating_sub(told_again.elapsed())), Some(0));
}

const BURST: usize = 100;

async fn talkative(start: Start) -> Stage {
    let start = start.talkative();
    Stage::new(start.run(), Carrier::WebTransport).await
}

/// One player on each transport, in rooms of their own.
async fn three(stage: &mut Stage) -> Vec<Player> {
    let mut players = Vec::new();
    for (user, carrier) in [("alice", Carrier::WebTransport), ("bob", Carrier::Quic), ("carol", Carrier::WebSocketJson)]
    {
        stage.carrier = carrier;
        players.push(stage.player_in(user, user).await);
    }
    players
}

async fn burst(player: &Player) -> Vec<Result<u64, String>> {
    let room = player.connection.welcome().user.clone();
    join_all((0..BURST).map(async |n| {
        let published = player.publish(&room, &format!("c{n}"), "before the end").await;
        published.map(|published| published.seq).map_err(|error| error.message)
    }))
    .await
}

fn reconnect(event: &push::Event) -> Option<u32> {
    match event {
        push::Event::Reconnect(reconnect) => Some(reconnect.after_ms),
        _ => None,
    }
}

fn upgrade(process: &Process) -> Answer {
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: veza.v1.json\r\n";
    get(process.websocket, "/ws", headers)
}
