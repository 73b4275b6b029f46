//! The lanes on QUIC and WebTransport.

use super::*;
use veza_proto::limits::{DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX};
use veza_proto::v1::{Publish, Typing};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lane_echoes_on_quic_and_webtransport() {
    let house = house().await;
    for client in house.both().await {
        let mut control = client.open(0).await;
        control.ask(&ping(1)).await;
        let mut chat = client.open(1).await;
        chat.ask(&ping(2)).await;
        for id in 3..20 {
            let mut bulk = client.open(2).await;
            bulk.send(&history(id)).await;
            bulk.send.shutdown().await.unwrap();
            assert_eq!(replied(&bulk.next().await), id);
            assert_eq!(bulk.try_next().await, None, "a bulk stream ends after its reply");
        }
        control.ask(&ping(21)).await;
        chat.ask(&ping(22)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_stream_that_stays_open_is_answered_too_and_its_place_is_free_again() {
    let house = house().await;
    for client in house.both().await {
        let mut control = client.open(0).await;
        control.ask(&ping(1)).await;
        for id in 2..30 {
            let mut bulk = client.open(2).await;
            bulk.ask(&history(id)).await;
            assert_eq!(bulk.try_next().await, None);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_end_a_bulk_stream_after_its_answer() {
    let house = house().await;
    let client = house.quic().await;
    let mut control = client.open(0).await;
    control.ask(&ping(1)).await;
    let mut waiting = Vec::new();
    for id in 2..5 {
        let (mut send, mut recv) = client.connection().open_bi().await.unwrap();
        send.write_all(&[&[2][..], &encode_delimited(&history(id))].concat()).await.unwrap();
        recv.read_to_end(4096).await.unwrap();
        waiting.push(send);
    }
    let oldest = waiting.remove(0).stopped();
    let stopped = tokio::time::timeout(Duration::from_secs(5), oldest).await.unwrap().unwrap();
    assert_eq!(stopped, Some(quinn::VarInt::from_u32(0)), "two may wait, a third is stopped");
    for mut send in waiting {
        send.finish().unwrap();
        let taken = tokio::time::timeout(Duration::from_secs(5), send.stopped()).await.unwrap().unwrap();
        assert_eq!(taken, None, "its end was taken");
    }
    control.ask(&ping(9)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peer_is_told_and_a_bearer_token_is_taken() {
    let mut house = house().await;
    let _quic = house.quic().await;
    assert!(house.heard("Quic").await.contains("bearer: None"));
    let headers = [
        ("authorization", "Bearer abc"),
        ("origin", "https://veza.example"),
        ("wt-available-protocols", "\"veza.v1.proto\""),
    ];
    let _client = house.try_webtransport("/wt", &headers).await.unwrap();
    assert!(house.heard("WebTransport").await.contains("bearer: Some(\"abc\")"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_byte_fragments_make_a_frame() {
    let house = house().await;
    for client in house.both().await {
        let mut control = client.open_unnamed().await;
        for byte in [&[0][..], &encode_delimited(&ping(7))].concat() {
            control.send.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(replied(&control.next().await), 7);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_frame_is_reported_and_the_stream_goes_on() {
    let mut house = house().await;
    for client in house.both().await {
        let mut control = client.open(0).await;
        control.send.write_all(&[2, 0xff, 0xff]).await.unwrap();
        assert_eq!(replied(&control.next().await), 0);
        house.heard("Malformed").await;
        control.ask(&ping(2)).await;
    }
}

/// A frame whose encoding has exactly this many bytes. It is no publish, which would end the echo.
fn frame_of(id: u32, bytes: usize) -> ClientFrame {
    let of = |room: usize| {
        let typing = Typing { room: "x".repeat(room), active: true };
        ClientFrame { id, command: Some(Command::Typing(typing)) }
    };
    let frame = of(bytes - (prost_len(&of(bytes)) - bytes));
    assert_eq!(prost_len(&frame), bytes);
    frame
}

fn prost_len(frame: &ClientFrame) -> usize {
    let encoded = encode_delimited(frame);
    let prefix = encoded.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    encoded.len() - prefix
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_at_the_limit_passes_and_one_past_stops_the_stream() {
    let mut house = house().await;
    for client in house.both().await {
        let mut control = client.open(0).await;
        let mut chat = client.open(1).await;
        chat.ask(&frame_of(1, FRAME_BYTES_MAX)).await;
        // The server may stop the stream before all of it is written.
        let _ = chat.send.write_all(&encode_delimited(&frame_of(2, FRAME_BYTES_MAX + 1))).await;
        house.heard("TooLarge").await;
        assert_eq!(replied(&control.next().await), 0, "the error comes by the control lane");
        let mut refused = false;
        for _ in 0..100 {
            if chat.send.write_all(&[0]).await.is_err() {
                refused = true;
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(refused, "the stream was stopped");
        let mut chat = client.open(1).await;
        chat.ask(&ping(3)).await;
        control.ask(&ping(4)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_stream_of_a_lane_is_reset_while_the_first_is_open() {
    let house = house().await;
    for client in house.both().await {
        let mut control = client.open(0).await;
        control.ask(&ping(1)).await;
        let mut second = client.open(0).await;
        let mut buffer = [0; 8];
        assert!(second.recv.read(&mut buffer).await.is_err(), "reset");
        control.ask(&ping(2)).await;

        control.send.shutdown().await.unwrap();
        let mut successor = client.open(0).await;
        successor.ask(&ping(3)).await;
        assert_eq!(control.try_next().await, None, "the finished one is ended by us too");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_lanes_and_one_directional_streams_are_turned_away() {
    let house = house().await;
    for client in house.both().await {
        let mut stranger = client.open(9).await;
        assert!(stranger.recv.read(&mut [0; 8]).await.is_err(), "reset");
        let connection = client.connection().clone();
        if let Client::Quic { .. } = &client {
            for _ in 0..20 {
                let mut stream = connection.open_uni().await.unwrap();
                stream.write_all(b"nobody reads this").await.unwrap();
                let stopped = tokio::time::timeout(Duration::from_secs(5), stream.stopped()).await.unwrap();
                assert_eq!(stopped.unwrap().map(quinn::VarInt::into_inner), Some(4400));
            }
        }
        if let Client::WebTransport { session, .. } = &client {
            for _ in 0..20 {
                // Opening it sends its header, so it may be turned away before the first write, or before that.
                let mut stream = match session.open_uni().await.unwrap().await {
                    Ok(stream) => stream,
                    Err(wtransport::error::StreamOpeningError::Refused) => continue,
                    Err(other) => panic!("{other}"),
                };
                match stream.write_all(b"nobody reads this").await {
                    Ok(()) | Err(wtransport::error::StreamWriteError::Stopped(_)) => {}
                    Err(other) => panic!("{other}"),
                }
                tokio::time::timeout(Duration::from_secs(5), stream.stopped()).await.unwrap();
            }
        }
        let mut control = client.open(0).await;
        control.ask(&ping(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_go_both_ways_and_bad_ones_are_told() {
    let mut house = house().await;
    for client in house.both().await {
        let mut frame = vec![1];
        frame.extend_from_slice(&encode_delimited(&ping(5))[1..]);
        client.send_datagram(&frame);
        let answer = client.datagram().await;
        assert_eq!(answer[0], 1);
        let answer: ServerFrame = veza_proto::frame::decode(&answer[1..]).unwrap();
        assert_eq!(replied(&answer), 5);

        let mut largest = vec![1];
        largest.extend_from_slice(&encode_delimited(&frame_of(6, DATAGRAM_BYTES_MAX - 1))[2..]);
        assert_eq!(largest.len(), DATAGRAM_BYTES_MAX);
        client.send_datagram(&largest);
        client.datagram().await;

        // Media packets are none of the link's business, whatever they hold.
        for media in [&[2][..], &[2, 1, 2, 3], &[2; DATAGRAM_BYTES_MAX]] {
            client.send_datagram(media);
            assert_eq!(client.datagram().await, media);
        }

        for bad in [&[][..], &[2; DATAGRAM_BYTES_MAX + 1], &[7], &[1, 0xff], &[1; DATAGRAM_BYTES_MAX + 1]] {
            client.send_datagram(bad);
            house.heard("BadDatagram").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peer_sees_the_close_code_and_what_was_sent_before() {
    let house = house().await;
    for client in house.both().await {
        let mut control = client.open(0).await;
        control.ask(&ping(1)).await;
        control.send(&bye()).await;
        assert_eq!(control.try_next().await, None, "the lane ends in order");
        assert_eq!(client.closed().await, (4012, "the node goes away".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_sees_the_peers_close() {
    let mut house = house().await;
    for client in house.both().await {
        let mut control = client.open(0).await;
        control.ask(&ping(1)).await;
        client.connection().close(4000u32.into(), b"bye");
        assert!(house.heard("Ended").await.contains("Closed { code: Some(4000) }"));
    }
    for _ in 0..100 {
        if house.admissions.admitted() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("places are free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_streams_within_a_second_close_the_link() {
    let house = house().await;
    let client = house.quic().await;
    let mut control = client.open(0).await;
    control.ask(&ping(1)).await;
    let abuse = async {
        while let Ok((mut send, _recv)) = client.connection().open_bi().await {
            let _ = send.write_all(&[9]).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), abuse).await.unwrap();
    assert_eq!(client.closed().await.0, 4429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_has_eight_streams_and_no_more() {
    let house = house().await;
    let client = house.quic().await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(client.connection().open_bi().await.unwrap());
    }
    let ninth = async { drop(client.connection().open_bi().await) };
    assert!(tokio::time::timeout(Duration::from_millis(200), ninth).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_one_session_leaves_the_others() {
    let house = house().await;
    let [bystander, other] = house.both().await;
    let mut control = bystander.open(0).await;
    control.ask(&ping(1)).await;
    let mut careless = other.open(1).await;
    let publish = Publish { room: "lobby".into(), ..Publish::default() };
    careless.send(&ClientFrame { id: 1, command: Some(Command::Publish(publish)) }).await;
    tokio::time::timeout(Duration::from_secs(5), other.connection().closed()).await.unwrap();
    control.ask(&ping(2)).await;
    let newcomer = house.webtransport().await;
    newcomer.open(0).await.ask(&ping(3)).await;
}
