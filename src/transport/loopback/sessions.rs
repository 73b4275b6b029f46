//! WebTransport spoken by hand: what the library the other tests connect with does not say.

use wtransport_proto::bytes::BytesWriter;
use wtransport_proto::frame::Frame;
use wtransport_proto::headers::Headers;
use wtransport_proto::varint::VarInt;

use super::*;

const DATA: u32 = 0x00;
const HEADERS: u32 = 0x01;
const SETTINGS: u32 = 0x04;
const STREAM: u32 = 0x41;
const CLOSE: u32 = 0x2843;

const STREAM_CREATION: u64 = 0x103;
const CLOSED_CRITICAL: u64 = 0x104;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME: u64 = 0x106;
const EXCESSIVE_LOAD: u64 = 0x107;
const ID: u64 = 0x108;
const BAD_SETTINGS: u64 = 0x109;
const MISSING_SETTINGS: u64 = 0x10a;
const DECOMPRESSION: u64 = 0x200;
const BUFFERED_REJECTED: u64 = 0x3994_bd84;

/// A connection on which nothing is said but what the test says.
struct Raw {
    connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

type Bidi = (quinn::SendStream, quinn::RecvStream);

impl House {
    async fn raw(&self) -> Raw {
        let endpoint = self.quic_endpoint(b"h3");
        let connection = endpoint.connect(self.addresses.webtransport, "localhost").unwrap().await.unwrap();
        Raw { connection, _endpoint: endpoint }
    }

    /// With settings said and a session on stream 0.
    async fn raw_session(&self) -> (Raw, quinn::SendStream, Bidi) {
        let raw = self.raw().await;
        let control = raw.uni(&[&[0][..], &frame(SETTINGS, &[])].concat()).await;
        let (status, connect) = raw.ask(CONNECT).await;
        assert_eq!(status, "200");
        (raw, control, connect)
    }
}

impl Raw {
    async fn uni(&self, bytes: &[u8]) -> quinn::SendStream {
        let mut send = self.connection.open_uni().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send
    }

    async fn bi(&self, bytes: &[u8]) -> Bidi {
        let (mut send, recv) = self.connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        (send, recv)
    }

    /// A stream of a session for a lane, with a ping.
    async fn lane(&self, session: u32, lane: u8, id: u32) -> Stream {
        let (send, recv) = self.bi(&[&varints(&[STREAM, session])[..], &[lane]].concat()).await;
        let mut stream = Stream { send: Box::pin(send), recv: Box::pin(recv), decoder: Decoder::default() };
        stream.send(&ping(id)).await;
        stream
    }

    async fn ask(&self, fields: &[(&str, &str)]) -> (String, Bidi) {
        let (send, mut recv) = self.bi(&request(fields)).await;
        (status(&mut recv).await, (send, recv))
    }

    /// The code the server ended the connection with.
    async fn fault(&self) -> u64 {
        let closed = tokio::time::timeout(Duration::from_secs(8), self.connection.closed()).await.expect("a close");
        let quinn::ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed}") };
        close.error_code.into_inner()
    }
}

const CONNECT: &[(&str, &str)] = &[
    (":method", "CONNECT"),
    (":scheme", "https"),
    (":protocol", "webtransport"),
    (":authority", "localhost"),
    (":path", "/wt"),
];

fn varints(values: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    values.iter().for_each(|value| bytes.put_varint(VarInt::from_u32(*value)).unwrap());
    bytes
}

fn frame(kind: u32, payload: &[u8]) -> Vec<u8> {
    [&varints(&[kind, u32::try_from(payload.len()).unwrap()]), payload].concat()
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().copied().collect::<Headers>().generate_frame().payload().to_vec()
}

fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, &block(fields))
}

fn close(code: u32, reason: &str) -> Vec<u8> {
    frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

async fn varint(recv: &mut quinn::RecvStream) -> u64 {
    let mut first = [0];
    recv.read_exact(&mut first).await.unwrap();
    let mut bytes = vec![0; VarInt::parse_size(first[0])];
    bytes[0] = first[0];
    recv.read_exact(&mut bytes[1..]).await.unwrap();
    wtransport_proto::bytes::BytesReader::get_varint(&mut &bytes[..]).unwrap().into_inner()
}

async fn read_frame(recv: &mut quinn::RecvStream) -> (u64, Vec<u8>) {
    let read = async {
        let kind = varint(recv).await;
        let mut payload = vec![0; usize::try_from(varint(recv).await).unwrap()];
        recv.read_exact(&mut payload).await.unwrap();
        (kind, payload)
    };
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("a frame within 5 s")
}

async fn status(recv: &mut quinn::RecvStream) -> String {
    let (kind, payload) = read_frame(recv).await;
    assert_eq!(kind, u64::from(HEADERS));
    Headers::with_frame(&Frame::new_headers(payload.into())).unwrap().get(":status").unwrap().to_owned()
}

async fn reset_with(recv: &mut quinn::RecvStream) -> u64 {
    match tokio::time::timeout(Duration::from_secs(5), recv.read_to_end(100)).await.expect("a reset within 5 s") {
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => code.into_inner(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_is_a_capsule_before_it_is_the_connections() {
    let house = house().await;
    let (raw, _control, (_send, mut recv)) = house.raw_session().await;
    raw.lane(0, 0, 1).await.send(&bye()).await;
    let (kind, payload) = read_frame(&mut recv).await;
    assert_eq!((kind, payload), (u64::from(DATA), close(4012, "the node goes away")));
    assert!(recv.read_to_end(0).await.unwrap().is_empty(), "the CONNECT stream ends after it");
    assert_eq!(raw.fault().await, 4012);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_and_a_request_may_come_byte_by_byte() {
    let house = house().await;
    let raw = house.raw().await;
    let (mut connect, mut recv) = raw.connection.open_bi().await.unwrap();
    // A datagram setting, one nobody knows, and after the settings a frame nobody knows.
    let settings = frame(SETTINGS, &varints(&[0x33, 1, 0x1234_5678, 7]));
    let control_bytes = [&[0][..], &settings, &frame(0x21, b"grease")].concat();
    let mut control = raw.connection.open_uni().await.unwrap();
    for byte in request(CONNECT) {
        connect.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for byte in control_bytes {
        control.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(status(&mut recv).await, "200");
    assert_eq!(replied(&raw.lane(0, 0, 7).await.next().await), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_before_the_answer_are_kept_up_to_a_bound() {
    let house = house().await;
    let raw = house.raw().await;
    let (mut connect, mut recv) = raw.connection.open_bi().await.unwrap();
    let mut lanes = Vec::new();
    for (lane, id) in [(0, 1), (1, 2), (2, 3), (2, 4)] {
        lanes.push(raw.lane(0, lane, id).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (_send, mut one_past) = raw.bi(&varints(&[STREAM, 0])).await;
    assert_eq!(reset_with(&mut one_past).await, BUFFERED_REJECTED);
    connect.write_all(&request(CONNECT)).await.unwrap();
    let _control = raw.uni(&[&[0][..], &frame(SETTINGS, &[])].concat()).await;
    assert_eq!(status(&mut recv).await, "200");
    for (lane, id) in lanes.iter_mut().zip(1..) {
        assert_eq!(replied(&lane.next().await), id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_datagrams_of_another_session_are_not_ours() {
    let house = house().await;
    let (raw, _control, _connect) = house.raw_session().await;
    let (_send, mut recv) = raw.bi(&varints(&[STREAM, 4])).await;
    assert_eq!(reset_with(&mut recv).await, BUFFERED_REJECTED);
    let typed = |quarter: u8, id| Bytes::from([&[quarter, 1][..], &prost_bytes(&ping(id))].concat());
    raw.connection.send_datagram(typed(1, 5)).unwrap();
    raw.connection.send_datagram(typed(0, 6)).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), raw.connection.read_datagram()).await.unwrap().unwrap();
    assert_eq!(answer[0], 0);
    assert_eq!(replied(&veza_proto::frame::decode(&answer[2..]).unwrap()), 6);
    assert_eq!(replied(&raw.lane(0, 0, 7).await.next().await), 7);
    // The id of no bidirectional stream of a client is an error of the connection.
    let _stream = raw.bi(&varints(&[STREAM, 1])).await;
    assert_eq!(raw.fault().await, ID);
}

fn prost_bytes(message: &ClientFrame) -> Vec<u8> {
    let delimited = encode_delimited(message);
    assert!(delimited[0] < 0x80, "a short frame");
    delimited[1..].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_has_one_session_and_other_requests_are_answered() {
    let house = house().await;
    let raw = house.raw().await;
    let get = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")];
    let mut later = CONNECT.to_vec();
    later[2].1 = "webtransport-h3";
    let mut other = CONNECT.to_vec();
    other[2].1 = "websocket";
    let mut plain = CONNECT.to_vec();
    plain.remove(2);
    assert_eq!(raw.ask(&get).await.0, "404");
    assert_eq!(raw.ask(&other).await.0, "501");
    assert_eq!(raw.ask(&plain).await.0, "400");
    let _control = raw.uni(&[&[0][..], &frame(SETTINGS, &[])].concat()).await;
    let (session, _connect) = raw.ask(&later).await;
    assert_eq!(session, "200");
    assert_eq!(raw.ask(CONNECT).await.0, "429");
    assert_eq!(raw.ask(&get).await.0, "404");
    // The session is on the fourth stream: its id is 12, and its datagrams begin with 3.
    assert_eq!(replied(&raw.lane(12, 0, 7).await.next().await), 7);
    raw.connection.send_datagram([&[3, 1][..], &prost_bytes(&ping(8))].concat().into()).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), raw.connection.read_datagram()).await.unwrap().unwrap();
    assert_eq!(answer[0], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_section_at_its_limit_and_one_past() {
    let house = house().await;
    let padded = |bytes: usize| {
        let mut padding = "x".repeat(bytes);
        loop {
            let block = block(&[CONNECT, &[("x-padding", &padding)]].concat());
            match block.len() {
                len if len > bytes => padding.truncate(padding.len() - (len - bytes)),
                len if len < bytes => padding.extend(std::iter::repeat_n('x', bytes - len)),
                _ => return frame(HEADERS, &block),
            }
        }
    };
    let raw = house.raw().await;
    let _control = raw.uni(&[&[0][..], &frame(SETTINGS, &[])].concat()).await;
    let (_send, mut recv) = raw.bi(&padded(16 * 1024 + 1)[..1000]).await;
    assert_eq!(status(&mut recv).await, "431");
    let (_send, mut recv) = raw.bi(&padded(16 * 1024)).await;
    assert_eq!(status(&mut recv).await, "200");
    let _stream = raw.bi(&frame(HEADERS, &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])).await;
    assert_eq!(raw.fault().await, DECOMPRESSION);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_on_a_critical_stream_ends_the_connection() {
    let house = house().await;
    let settings = |payload: &[u8]| [&[0][..], &frame(SETTINGS, payload)].concat();
    let known = |rest: &[u8]| [settings(&[]), rest.to_vec()].concat();
    for (what, streams, fault) in [
        ("no settings", vec![[&[0][..], &frame(DATA, b"x")].concat()], MISSING_SETTINGS),
        ("half a setting", vec![settings(&[0x33])], FRAME),
        ("a setting of HTTP/2", vec![settings(&[0x02, 0])], BAD_SETTINGS),
        ("settings past their limit", vec![[&[0][..], &varints(&[SETTINGS, 4097])].concat()], EXCESSIVE_LOAD),
        ("settings twice", vec![known(&frame(SETTINGS, &[]))], FRAME_UNEXPECTED),
        ("data", vec![known(&frame(DATA, b"x"))], FRAME_UNEXPECTED),
        ("too much of what nobody knows", vec![known(&varints(&[0x21, 64 * 1024 - 1]))], EXCESSIVE_LOAD),
        ("two control streams", vec![settings(&[]), vec![0]], STREAM_CREATION),
        ("two encoders", vec![settings(&[]), vec![2], vec![2]], STREAM_CREATION),
        ("a push", vec![settings(&[]), vec![1]], STREAM_CREATION),
        ("too much QPACK", vec![settings(&[]), [vec![3], vec![0; 16 * 1024 + 1]].concat()], EXCESSIVE_LOAD),
    ] {
        let raw = house.raw().await;
        let mut held = Vec::new();
        for bytes in streams {
            let mut send = raw.connection.open_uni().await.unwrap();
            // The server may have ended the connection before the last byte.
            let _ = send.write_all(&bytes).await;
            held.push(send);
        }
        assert_eq!(raw.fault().await, fault, "{what}");
    }
    let (raw, mut control, _connect) = house.raw_session().await;
    control.finish().unwrap();
    assert_eq!(raw.fault().await, CLOSED_CRITICAL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_allowed_on_critical_streams_is_read_away() {
    let house = house().await;
    let raw = house.raw().await;
    let unknown: Vec<u8> = [0x4a, 0xbc, 0x40, 0x00].repeat(1024);
    let settings = [&[0][..], &frame(SETTINGS, &unknown), &frame(0x21, &vec![0; 64 * 1024 - 2])].concat();
    let _control = raw.uni(&settings).await;
    let _encoder = raw.uni(&[vec![2], vec![0; 16 * 1024]].concat()).await;
    let _decoder = raw.uni(&[3]).await;
    let stranger = raw.uni(&varints(&[0x21])).await;
    let (answer, _connect) = raw.ask(CONNECT).await;
    assert_eq!(answer, "200");
    assert_eq!(stranger.stopped().await.unwrap().map(quinn::VarInt::into_inner), Some(STREAM_CREATION));
    assert_eq!(replied(&raw.lane(0, 0, 7).await.next().await), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_connect_stream_ends_the_link() {
    let mut house = house().await;
    let (raw, _control, (mut send, _recv)) = house.raw_session().await;
    send.finish().unwrap();
    house.heard("Ended(Closed { code: Some(0) })").await;
    assert_eq!(raw.fault().await, 0x100);

    // Draining and a capsule nobody knows come before it, and frames cut it anywhere.
    let (_raw, _control, (mut send, _recv)) = house.raw_session().await;
    let capsules = [frame(0x78ae, &[]), frame(0x17, b"?"), close(4500, "bye")].concat();
    send.write_all(&frame(0x21, b"grease")).await.unwrap();
    for byte in capsules {
        send.write_all(&frame(DATA, &[byte])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    house.heard("Ended(Closed { code: Some(4500) })").await;

    let (_raw, _control, (mut send, _recv)) = house.raw_session().await;
    send.reset(0u32.into()).unwrap();
    house.heard("Ended(Closed { code: None })").await;

    let (_raw, _control, (mut send, _recv)) = house.raw_session().await;
    send.write_all(&varints(&[DATA, 64 * 1024 - 1])).await.unwrap();
    house.heard("Ended(Lost").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_request_is_closed_in_time() {
    let house = house().await;
    let raw = house.raw().await;
    let _control = raw.uni(&[&[0][..], &frame(SETTINGS, &[])].concat()).await;
    let half = request(CONNECT);
    let _stream = raw.bi(&half[..half.len() - 1]).await;
    let begun = std::time::Instant::now();
    tokio::time::timeout(Duration::from_secs(8), raw.connection.closed()).await.expect("a close");
    assert!(begun.elapsed() > Duration::from_secs(3));
}
