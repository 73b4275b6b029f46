//! Clients that do not read, bursts, restarts: what a link does when the other side does not do its part.

use std::sync::Mutex;
use std::time::Instant;

use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;
use crate::transport::DatagramSent;
use crate::transport::endpoint::{Endpoints, Entrance, Pressure};
use crate::transport::{End, http};

/// One link of every transport, and what keeps its client alive.
async fn links(house: &House, links: &mut mpsc::Receiver<Box<dyn Link>>) -> Vec<(Box<dyn Link>, Option<Client>)> {
    let mut all: Vec<(Box<dyn Link>, Option<Client>)> = Vec::new();
    for client in house.both().await {
        all.push((links.recv().await.unwrap(), Some(client)));
    }
    let stream = tokio::net::TcpStream::connect(house.addresses.websocket).await.unwrap();
    let request = format!("ws://{}/ws", house.addresses.websocket).into_client_request().unwrap();
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    // Held and never read.
    std::mem::forget(socket);
    all.push((links.recv().await.unwrap(), None));
    all
}

fn large() -> Encoded {
    let error = Error::permanent(ErrorCode::Internal, "x".repeat(16 * 1024));
    Encoded::reply(1, reply::Result::Error(error))
}

/// Polls as a session does: reading goes on while a lane is awaited.
async fn ready(link: &mut dyn Link, lane: Lane) {
    std::future::poll_fn(|cx| {
        let _ = link.poll_flush(cx);
        let _ = link.poll_recv(cx);
        link.poll_ready(cx, lane)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_back_its_lane_and_is_closed_all_the_same() {
    let (house, mut accepted) = held().await;
    let frame = large();
    for (mut link, client) in links(&house, &mut accepted).await {
        let _unread = match &client {
            Some(client) => Some(client.open(0).await),
            None => None,
        };
        let mut sent = 0;
        while tokio::time::timeout(Duration::from_millis(500), ready(&mut *link, Lane::Control)).await.is_ok() {
            link.start_send(Lane::Control, &frame);
            sent += frame.stream().len();
            assert!(sent < 32 * 1024 * 1024, "there is no end to what is taken");
        }
        let begun = Instant::now();
        std::future::poll_fn(|cx| link.poll_close(cx, CloseCode::SlowConsumer, "too slow")).await;
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        if let Some(client) = client {
            assert_eq!(client.closed().await.0, 4408);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_waits_until_the_client_opens_it() {
    let (house, mut accepted) = held().await;
    for client in house.both().await {
        let mut link = accepted.recv().await.unwrap();
        let _control = client.open(0).await;
        let early = tokio::time::timeout(Duration::from_millis(200), ready(&mut *link, Lane::Chat)).await;
        assert!(early.is_err(), "nobody has opened it");
        let session = async {
            ready(&mut *link, Lane::Chat).await;
            link.start_send(Lane::Chat, &pong(9));
            std::future::poll_fn(|cx| link.poll_flush(cx)).await;
        };
        let client = async {
            let mut chat = client.open(1).await;
            assert_eq!(replied(&chat.next().await), 9);
        };
        tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(session, client) }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_datagrams_is_dropped_and_told() {
    let (house, mut accepted) = held().await;
    let small = pong(1);
    let error = |len: usize| {
        let error = Error::permanent(ErrorCode::Internal, "x".repeat(len));
        Encoded::reply(1, reply::Result::Error(error))
    };
    let fitting = error(1_000);
    for (mut link, _client) in links(&house, &mut accepted).await {
        let kind = link.peer().transport;
        assert_eq!(link.send_datagram(&small), DatagramSent::Sent, "{kind:?}");
        let outcomes: Vec<_> = (0..200).map(|_| link.send_datagram(&fitting)).collect();
        assert!(outcomes.contains(&DatagramSent::Sent), "{kind:?}");
        assert!(outcomes.contains(&DatagramSent::Dropped), "{kind:?}");
        let too_large = link.send_datagram(&error(1_200));
        if kind.has_datagrams() {
            assert_eq!(too_large, DatagramSent::TooLarge, "{kind:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_websocket_volatile_frames_flow_again_when_the_socket_does() {
    let (house, mut accepted) = held().await;
    let stream = tokio::net::TcpStream::connect(house.addresses.websocket).await.unwrap();
    let request = format!("ws://{}/ws", house.addresses.websocket).into_client_request().unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let mut link = accepted.recv().await.unwrap();
    let frame = large();
    while tokio::time::timeout(Duration::from_millis(300), ready(&mut *link, Lane::Chat)).await.is_ok() {
        link.start_send(Lane::Chat, &frame);
    }
    assert_eq!(link.send_datagram(&pong(1)), DatagramSent::Dropped);
    let reader = async { while socket.next().await.is_some() {} };
    let writer = async {
        std::future::poll_fn(|cx| link.poll_flush(cx)).await;
        assert_eq!(link.send_datagram(&pong(1)), DatagramSent::Sent);
    };
    tokio::select! {
        () = reader => panic!("the connection stays"),
        () = writer => {}
        () = tokio::time::sleep(Duration::from_secs(10)) => panic!("it did not flow"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_has_ended_is_ready_and_closes_at_once() {
    let (house, mut accepted) = held().await;
    for (mut link, client) in links(&house, &mut accepted).await {
        match &client {
            Some(client) => client.connection().close(4000u32.into(), b""),
            None => continue,
        }
        let ended = std::future::poll_fn(|cx| link.poll_recv(cx)).await;
        assert!(matches!(ended, Inbound::Ended(End::Closed { code: Some(4000) })), "{ended:?}");
        for lane in [Lane::Control, Lane::Chat, Lane::Bulk(7)] {
            std::future::poll_fn(|cx| link.poll_ready(cx, lane)).await;
            link.start_send(lane, &pong(1));
        }
        std::future::poll_fn(|cx| link.poll_flush(cx)).await;
        std::future::poll_fn(|cx| link.poll_close(cx, CloseCode::Normal, "")).await;
    }
}

/// Passes packets between one client and whichever server is the current one.
async fn proxy(first: SocketAddr) -> (SocketAddr, Arc<Mutex<SocketAddr>>) {
    let front = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let back = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    let server = Arc::new(Mutex::new(first));
    let current = server.clone();
    Tasks::new().spawn("proxy", async move {
        let (mut up, mut down, mut client) = ([0; 2048], [0; 2048], address);
        loop {
            tokio::select! {
                Ok((len, from)) = front.recv_from(&mut up) => {
                    client = from;
                    let server = *current.lock().unwrap();
                    back.send_to(&up[..len], server).await.unwrap();
                }
                Ok((len, _)) = back.recv_from(&mut down) => {
                    front.send_to(&down[..len], client).await.unwrap();
                }
            }
        }
    });
    (address, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_tells_old_clients_that_their_connection_is_gone() {
    let house = house().await;
    let endpoints = |dir: &std::path::Path| {
        let bound = Endpoints::bind(loopback(0), 2, &house.certificates, dir).unwrap();
        let address = bound.address();
        let entrance = Entrance::new(
            house.admissions.clone(),
            Default::default(),
            http::router(Arc::new(Home), house.addresses, PAGE),
            Arc::new(|admission, link| std::mem::forget((admission, link))),
            house.tasks.clone(),
            Pressure::default(),
        );
        let stop = house.tasks.token();
        house.tasks.spawn("endpoints", async move { bound.run(Arc::new(entrance), stop).await });
        address
    };
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (endpoints(dir.path()), endpoints(dir.path()));
    let (address, server) = proxy(before).await;
    let endpoint = house.quic_endpoint(ALPN_QUIC);
    let connection = endpoint.connect(address, "localhost").unwrap().await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&[0]).await.unwrap();

    *server.lock().unwrap() = after;
    let told = async {
        loop {
            // A reset answers a packet, and must be smaller than it.
            let _ = send.write_all(&[0; 400]).await;
            if let Some(reason) = connection.close_reason() {
                return reason;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reason = tokio::time::timeout(Duration::from_secs(5), told).await.expect("told long before the idle timeout");
    assert_eq!(reason, quinn::ConnectionError::Reset);
}
