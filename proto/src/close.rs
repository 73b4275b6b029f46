/// Why a session ends: one number for WebSocket, WebTransport and QUIC, and in the `Closing` push before it.
///
/// 40xx to 44xx may come back after a back-off, [`CloseCode::Unauthenticated`] only with a new token, 45xx not at all.
/// 1009 … 1013 are WebSocket's own numbers (RFC 6455, section 7.4); other transports say the 40xx beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// The client said bye, or left.
    Normal,
    /// Three malformed frames within a minute.
    Malformed,
    /// No credentials in time, or bad, expired or revoked ones.
    Unauthenticated,
    /// The outbound queue passed its bound of bytes or age.
    SlowConsumer,
    /// Too many frames over the size limit.
    TooLarge,
    /// Limits were ignored for longer than errors could say.
    Abuse,
    /// The peer was silent for longer than the heartbeat allows.
    Silent,
    /// Our own mistake; the reason carries a correlation id.
    Internal,
    /// The node is going away.
    Draining,
    /// The node sheds load.
    Overloaded,
    /// The same session continued on another link.
    Superseded,
    /// Kicked, or access revoked.
    Revoked,
    /// Too many connections of this user.
    TooManyConnections,
}

impl CloseCode {
    /// Every code, for tables and tests.
    pub const ALL: [CloseCode; 13] = [
        CloseCode::Normal,
        CloseCode::Malformed,
        CloseCode::Unauthenticated,
        CloseCode::SlowConsumer,
        CloseCode::TooLarge,
        CloseCode::Abuse,
        CloseCode::Silent,
        CloseCode::Internal,
        CloseCode::Draining,
        CloseCode::Overloaded,
        CloseCode::Superseded,
        CloseCode::Revoked,
        CloseCode::TooManyConnections,
    ];

    /// The number on WebTransport, QUIC and in the `Closing` push.
    pub fn code(self) -> u16 {
        match self {
            CloseCode::Normal => 4000,
            CloseCode::Internal => 4011,
            CloseCode::Draining => 4012,
            CloseCode::Overloaded => 4013,
            CloseCode::Malformed => 4400,
            CloseCode::Unauthenticated => 4401,
            CloseCode::SlowConsumer => 4408,
            CloseCode::TooLarge => 4409,
            CloseCode::Silent => 4410,
            CloseCode::Abuse => 4429,
            CloseCode::Superseded => 4502,
            CloseCode::Revoked => 4503,
            CloseCode::TooManyConnections => 4504,
        }
    }

    /// The number in a WebSocket close frame.
    pub fn websocket(self) -> u16 {
        match self {
            CloseCode::Normal => 1000,
            CloseCode::Internal => 1011,
            CloseCode::Draining => 1012,
            CloseCode::Overloaded => 1013,
            CloseCode::Malformed
            | CloseCode::Unauthenticated
            | CloseCode::SlowConsumer
            | CloseCode::TooLarge
            | CloseCode::Abuse
            | CloseCode::Silent
            | CloseCode::Superseded
            | CloseCode::Revoked
            | CloseCode::TooManyConnections => self.code(),
        }
    }

    /// A stable word for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            CloseCode::Normal => "normal",
            CloseCode::Malformed => "malformed",
            CloseCode::Unauthenticated => "unauthenticated",
            CloseCode::SlowConsumer => "slow_consumer",
            CloseCode::TooLarge => "too_large",
            CloseCode::Abuse => "abuse",
            CloseCode::Silent => "silent",
            CloseCode::Internal => "internal",
            CloseCode::Draining => "draining",
            CloseCode::Overloaded => "overloaded",
            CloseCode::Superseded => "superseded",
            CloseCode::Revoked => "revoked",
            CloseCode::TooManyConnections => "too_many_connections",
        }
    }

    /// Reads a number of either column.
    pub fn from_code(code: u16) -> Option<CloseCode> {
        CloseCode::ALL.into_iter().find(|known| known.code() == code || known.websocket() == code)
    }

    /// Whether a client may come back with what it has: not with 4401 (a new token first), never after 45xx.
    pub fn may_retry(self) -> bool {
        self != CloseCode::Unauthenticated && self != CloseCode::Normal && self.code() < 4500
    }
}

#[cfg(test)]
mod tests {
    use super::CloseCode;

    #[test]
    fn numbers_are_unique_and_read_back() {
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_code(code.code()), Some(code));
            assert_eq!(CloseCode::from_code(code.websocket()), Some(code));
        }
    }

    #[test]
    fn who_may_come_back() {
        assert!(CloseCode::Draining.may_retry());
        assert!(CloseCode::SlowConsumer.may_retry());
        assert!(!CloseCode::Unauthenticated.may_retry());
        assert!(!CloseCode::Revoked.may_retry());
    }
}
