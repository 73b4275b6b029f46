//! The final history, read when everything is calm: by a stranger over the protocol, and from the database itself.

use std::time::Duration;

use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{History, HistoryPage, JoinRoom, View, history, reply};
use veza_client::{Connection, Error};
use veza_history::{Entry, Event};

use crate::Failure;
use crate::recorder::Recorder;

/// Every page is a stream of its own, and a link that opens more than two hundred a second is closed.
const PACE: Duration = Duration::from_millis(8);

/// A room's log from its first entry to its last, into the run's log. Gives the head.
pub(super) async fn by_protocol(reader: &Connection, room: &str, recorder: &Recorder) -> Result<u64, Failure> {
    let failed = |why: String| Failure::setup(format!("the final history of {room} cannot be read: {why}"));
    let join = JoinRoom { room: room.to_owned(), ..JoinRoom::default() };
    reader.command(Command::JoinRoom(join)).await.map_err(|error| failed(error.to_string()))?;
    let source = || "protocol".to_owned();
    let mut after = 0;
    loop {
        let page = page(reader, room, after).await.map_err(&failed)?;
        tokio::time::sleep(PACE).await;
        for message in &page.messages {
            let entry = Entry::from(message);
            recorder.record("", Event::Stored { source: source(), room: room.to_owned(), entry });
            after = message.seq;
        }
        if !page.more_after {
            let (epoch, first_available, head) = (page.epoch, page.first_available, page.head);
            recorder.record("", Event::Final { source: source(), room: room.to_owned(), epoch, first_available, head });
            return Ok(head);
        }
        if page.messages.is_empty() {
            return Err(failed(format!("nothing comes after #{after}, and there should be more")));
        }
    }
}

async fn page(reader: &Connection, room: &str, after: u64) -> Result<HistoryPage, String> {
    let anchor = Some(history::Anchor::AfterSeq(after));
    let limit = reader.welcome().limits.as_ref().map_or(0, |limits| limits.history_page_max);
    let history = History { room: room.to_owned(), limit, view: View::Everything.into(), anchor, thread: 0 };
    loop {
        return match reader.command(Command::History(history.clone())).await {
            Ok(reply::Result::HistoryPage(page)) => Ok(page),
            Ok(other) => Err(format!("{other:?} is no page")),
            // Nobody else reads so much at once.
            Err(Error::Refused(refused)) if refused.temporary => {
                tokio::time::sleep(Duration::from_millis(u64::from(refused.retry_after_ms.max(20)))).await;
                continue;
            }
            Err(error) => Err(error.to_string()),
        };
    }
}
