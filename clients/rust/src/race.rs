//! Which transport carries the session: WebTransport at once, WebSocket a little later, the first link wins.

use std::time::Duration;

use tokio::time::Instant;
use veza_proto::Format;

use crate::error::ConnectError;
use crate::link::Link;
use crate::{Endpoints, Preference, Target, Transport};

/// How long WebTransport runs alone: blocked UDP is silent, so its rejection is never waited for.
const HEAD_START: Duration = Duration::from_millis(400);

/// How long a winner is taken without a race.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The winner of an earlier race to the same server.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory(Option<(Transport, Instant)>);

impl Memory {
    fn recall(self, now: Instant) -> Option<Transport> {
        self.0.filter(|(_, won)| now.duration_since(*won) < REMEMBERED_FOR).map(|(transport, _)| transport)
    }
}

/// One link by the preferred transport; with [`Preference::Auto`] by a race, unless an earlier winner still answers.
pub(crate) async fn connect(
    endpoints: &Endpoints,
    target: &Target,
    preference: Preference,
    format: Format,
    memory: &mut Memory,
) -> Result<Link, ConnectError> {
    let one = |transport| Link::connect(endpoints, target, transport, format);
    match preference {
        Preference::Only(transport) => one(transport).await,
        Preference::Auto => {
            if let Some(winner) = memory.recall(Instant::now()) {
                match one(winner).await {
                    Ok(link) => return Ok(link),
                    Err(error) => {
                        tracing::debug!(%error, "the remembered transport does not answer");
                        *memory = Memory::default();
                    }
                }
            }
            let link = race(one).await?;
            *memory = Memory(Some((link.transport(), Instant::now())));
            Ok(link)
        }
    }
}

/// Dropping the loser's future cancels it: it has sent no hello.
async fn race<L, F>(connect: impl Fn(Transport) -> F) -> Result<L, ConnectError>
where
    F: Future<Output = Result<L, ConnectError>>,
{
    let mut first = std::pin::pin!(connect(Transport::WebTransport));
    let head_start = tokio::time::timeout(HEAD_START, &mut first).await;
    match head_start {
        Ok(Ok(link)) => return Ok(link),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no WebTransport");
            return connect(Transport::WebSocket).await;
        }
        Err(_elapsed) => {}
    }
    let mut second = std::pin::pin!(connect(Transport::WebSocket));
    tokio::select! {
        link = &mut first => match link {
            Ok(link) => Ok(link),
            Err(_) => second.await,
        },
        link = &mut second => match link {
            Ok(link) => Ok(link),
            Err(_) => first.await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers after a while with its own name, or refuses.
    async fn peer(transport: Transport, after_ms: u64, answers: bool) -> Result<Transport, ConnectError> {
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        if answers { Ok(transport) } else { Err(ConnectError::new(transport, "refused")) }
    }

    async fn run(webtransport: (u64, bool), websocket: (u64, bool)) -> (Option<Transport>, u128) {
        let started = Instant::now();
        let won = race(|transport| {
            let (after_ms, answers) = match transport {
                Transport::WebTransport => webtransport,
                Transport::WebSocket => websocket,
                Transport::Quic => unreachable!("the race knows two"),
            };
            peer(transport, after_ms, answers)
        })
        .await;
        (won.ok(), started.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn webtransport_within_its_head_start_wins_alone() {
        assert_eq!(run((399, true), (0, true)).await, (Some(Transport::WebTransport), 399));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_costs_400_ms() {
        assert_eq!(run((30_000, false), (5, true)).await, (Some(Transport::WebSocket), 405));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_costs_nothing_more() {
        assert_eq!(run((3, false), (5, true)).await, (Some(Transport::WebSocket), 8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_webtransport_still_wins_over_a_dead_websocket() {
        assert_eq!(run((600, true), (0, false)).await, (Some(Transport::WebTransport), 600));
        assert_eq!(run((600, false), (0, false)).await, (None, 600));
    }

    #[tokio::test(start_paused = true)]
    async fn a_winner_is_remembered_for_a_day() {
        let memory = Memory(Some((Transport::WebSocket, Instant::now())));
        tokio::time::advance(REMEMBERED_FOR - Duration::from_millis(1)).await;
        assert_eq!(memory.recall(Instant::now()), Some(Transport::WebSocket));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(memory.recall(Instant::now()), None);
    }
}
