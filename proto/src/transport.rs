/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    WebTransport,
    Quic,
    WebSocket,
}

impl Transport {
    /// As metrics, logs and the `Welcome` say it.
    pub fn label(self) -> &'static str {
        match self {
            Transport::WebTransport => "webtransport",
            Transport::Quic => "quic",
            Transport::WebSocket => "websocket",
        }
    }

    /// Whether datagrams can be lost and can overtake, so that `fast` deliveries make sense.
    pub fn has_datagrams(self) -> bool {
        match self {
            Transport::WebTransport | Transport::Quic => true,
            Transport::WebSocket => false,
        }
    }
}
