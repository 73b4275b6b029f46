//! An HTTP/3 connection that carries WebTransport (RFC 9114, draft-ietf-webtrans-http3): its settings, its critical
//! streams, and what every new stream turns out to be. One task polls it; while nothing comes it holds the streams alone.

use std::sync::LazyLock;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use quinn::{RecvStream, SendStream};
use veza_proto::CloseCode;
use wtransport_proto::bytes::BytesReader;
use wtransport_proto::error::ErrorCode;
use wtransport_proto::settings::Settings;
use wtransport_proto::stream_header::StreamHeader;
use wtransport_proto::varint::VarInt;

use super::critical::{Control, Qpack};
use super::frames::Varint;
use super::opened::{Kind, Opened};
use super::request::{self, Request};
use super::{h3_code, stream_code};
use crate::transport::End;
use crate::transport::quic::{Arrival, Carrier, Plain};

/// Types of one-directional streams (RFC 9114, section 6.2; RFC 9204, section 4.2; the draft, section 4.2).
const CONTROL: u64 = 0x00;
const PUSH: u64 = 0x01;
const QPACK_ENCODER: u64 = 0x02;
const QPACK_DECODER: u64 = 0x03;
const WEBTRANSPORT: u64 = 0x54;

/// Our control stream's beginning: what browsers of draft 02 and of draft 07 look for. Draft 13's settings without its
/// flow control make Safari refuse.
static SETTINGS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let settings = Settings::builder()
        .qpack_max_table_capacity(VarInt::from_u32(0))
        .qpack_blocked_streams(VarInt::from_u32(0))
        .enable_connect_protocol()
        .enable_webtransport()
        .enable_h3_datagrams()
        .webtransport_max_sessions(VarInt::from_u32(1))
        .build();
    let mut bytes = Vec::new();
    let written =
        StreamHeader::new_control().write(&mut bytes).and_then(|()| settings.generate_frame().write(&mut bytes));
    written.expect("a vector grows");
    bytes
});

pub(super) struct Connection {
    plain: Plain,
    /// Kept, because its end would be the connection's.
    _control: SendStream,
    control: Option<Control>,
    encoder: Option<Qpack>,
    decoder: Option<Qpack>,
    /// Streams that have not said what they are. How many there are is bounded by what the connection grants.
    opened: Vec<Opened>,
    opened_uni: Vec<(RecvStream, Varint)>,
}

/// What a connection brings.
pub(super) enum News {
    Request(Request),
    /// A bidirectional stream of a session, from its first own byte.
    Stream {
        session: u64,
        send: SendStream,
        recv: RecvStream,
    },
    Datagram {
        session: u64,
        payload: Bytes,
    },
    Ended(End),
}

impl Connection {
    /// Sends our settings.
    ///
    /// # Errors
    /// When the connection is lost, or the client does not take them.
    pub(super) async fn open(connection: quinn::Connection) -> Result<Self, String> {
        let mut control = connection.open_uni().await.map_err(|error| error.to_string())?;
        control.write_all(&SETTINGS).await.map_err(|error| error.to_string())?;
        Ok(Self {
            plain: Plain::new(connection),
            _control: control,
            control: None,
            encoder: None,
            decoder: None,
            opened: Vec::new(),
            opened_uni: Vec::new(),
        })
    }

    pub(super) fn quic(&self) -> &quinn::Connection {
        self.plain.connection()
    }

    /// Whether the client's settings are here.
    pub(super) fn is_settled(&self) -> bool {
        self.control.as_ref().is_some_and(Control::is_settled)
    }

    /// What comes next. After the end it must not be polled again.
    pub(super) fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        match ready!(self.poll_news_or_fault(cx)) {
            Ok(news) => Poll::Ready(news),
            Err(fault) => Poll::Ready(News::Ended(self.fail(fault))),
        }
    }

    /// Ends the connection with an error of HTTP/3.
    pub(super) fn fail(&self, fault: ErrorCode) -> End {
        self.quic().close(h3_code(fault), b"");
        End::Lost { why: format!("HTTP/3: {fault}") }
    }

    fn poll_news_or_fault(&mut self, cx: &mut Context<'_>) -> Poll<Result<News, ErrorCode>> {
        loop {
            self.sort_uni(cx)?;
            let faults = [
                self.control.as_mut().map(|control| control.poll_fault(cx)),
                self.encoder.as_mut().map(|encoder| encoder.poll_fault(cx)),
                self.decoder.as_mut().map(|decoder| decoder.poll_fault(cx)),
            ];
            for fault in faults.into_iter().flatten() {
                if let Poll::Ready(fault) = fault {
                    return Poll::Ready(Err(fault));
                }
            }
            if let Some(news) = self.sort(cx)? {
                return Poll::Ready(Ok(news));
            }
            match ready!(self.plain.poll_arrival(cx)) {
                Arrival::Stream(send, recv) => self.opened.push(Opened::new(send, recv)),
                Arrival::Unidirectional(recv) => self.opened_uni.push((recv, Varint::default())),
                Arrival::Datagram(datagram) => return Poll::Ready(read_datagram(&datagram)),
                Arrival::Ended(end) => return Poll::Ready(Ok(News::Ended(end))),
            }
        }
    }

    /// Looks what bidirectional streams are.
    fn sort(&mut self, cx: &mut Context<'_>) -> Result<Option<News>, ErrorCode> {
        let mut at = 0;
        while let Some(opened) = self.opened.get_mut(at) {
            let Poll::Ready(kind) = opened.poll_kind(cx)? else {
                at += 1;
                continue;
            };
            let Opened { send, frames, .. } = self.opened.swap_remove(at);
            match kind {
                Kind::Stream { session } => {
                    return Ok(Some(News::Stream { session, send, recv: frames.into_stream() }));
                }
                Kind::Request(block) => return Ok(Some(News::Request(Request::read(block, send, frames)?))),
                Kind::TooLarge => {
                    request::turn_away(cx, send, frames, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
                }
                Kind::Gone => {}
            }
        }
        if at == 0 && self.opened.capacity() > 0 {
            // They come once in a session's life.
            self.opened = Vec::new();
        }
        Ok(None)
    }

    /// Looks what one-directional streams are.
    fn sort_uni(&mut self, cx: &mut Context<'_>) -> Result<(), ErrorCode> {
        let mut at = 0;
        while let Some((recv, kind)) = self.opened_uni.get_mut(at) {
            let Poll::Ready(kind) = kind.poll(cx, recv) else {
                at += 1;
                continue;
            };
            let (recv, _) = self.opened_uni.swap_remove(at);
            // One that ends before it said what it is was nothing (RFC 9114, section 6.2).
            if let Ok(Some(kind)) = kind {
                self.assign(kind, recv)?;
            }
        }
        if at == 0 && self.opened_uni.capacity() > 0 {
            self.opened_uni = Vec::new();
        }
        Ok(())
    }

    fn assign(&mut self, kind: u64, mut recv: RecvStream) -> Result<(), ErrorCode> {
        let twice = match kind {
            CONTROL => self.control.replace(Control::new(recv)).is_some(),
            QPACK_ENCODER => self.encoder.replace(Qpack::new(recv)).is_some(),
            QPACK_DECODER => self.decoder.replace(Qpack::new(recv)).is_some(),
            PUSH => return Err(ErrorCode::StreamCreation),
            other => {
                // No lane is one-directional. An error says that the client has ended it already.
                let ours = other == WEBTRANSPORT;
                let code = if ours { stream_code(CloseCode::Malformed) } else { h3_code(ErrorCode::StreamCreation) };
                let _ = recv.stop(code);
                false
            }
        };
        if twice { Err(ErrorCode::StreamCreation) } else { Ok(()) }
    }
}

/// Takes the quarter of the session's id from a datagram (RFC 9297, section 2.1).
fn read_datagram(datagram: &Bytes) -> Result<News, ErrorCode> {
    let mut rest = &datagram[..];
    let quarter = rest.get_varint().ok_or(ErrorCode::Datagram)?.into_inner();
    let session = quarter.checked_mul(4).filter(|id| *id <= VarInt::MAX.into_inner()).ok_or(ErrorCode::Datagram)?;
    Ok(News::Datagram { session, payload: datagram.slice_ref(rest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(datagram: &[u8]) -> Result<(u64, Bytes), ErrorCode> {
        match read_datagram(&Bytes::copy_from_slice(datagram))? {
            News::Datagram { session, payload } => Ok((session, payload)),
            News::Request(_) | News::Stream { .. } | News::Ended(_) => unreachable!("it was a datagram"),
        }
    }

    #[test]
    fn datagrams_name_a_quarter_of_their_session() {
        assert_eq!(session(&[0, 1, 2]), Ok((0, Bytes::from_static(&[1, 2]))));
        assert_eq!(session(&[0x40, 0x40]), Ok((256, Bytes::new())));
        assert_eq!(session(&[]), Err(ErrorCode::Datagram));
        assert_eq!(session(&[0x40]), Err(ErrorCode::Datagram));
        let quarter = |id: u64| ((id / 4) | 0xc0 << 56).to_be_bytes();
        assert_eq!(session(&quarter((1 << 62) - 4)).unwrap().0, (1 << 62) - 4);
        assert_eq!(session(&(1u64 << 60 | 0xc0 << 56).to_be_bytes()), Err(ErrorCode::Datagram));
    }

    #[test]
    fn our_settings_are_those_of_drafts_02_and_07() {
        assert_eq!(SETTINGS[..2], [0x00, 0x04], "the type of the stream, and of the frame");
        let frame = wtransport_proto::frame::Frame::read(&mut &SETTINGS[1..]).unwrap().unwrap();
        let settings = Settings::with_frame(&frame).unwrap();
        use wtransport_proto::settings::SettingId;
        for (id, value) in [
            (SettingId::QPackMaxTableCapacity, 0),
            (SettingId::QPackBlockedStreams, 0),
            (SettingId::EnableConnectProtocol, 1),
            (SettingId::H3Datagram, 1),
            (SettingId::EnableWebTransport, 1),
            (SettingId::WebTransportMaxSessions, 1),
        ] {
            assert_eq!(settings.get(id), Some(VarInt::from_u32(value)), "{id:?}");
        }
    }
}
