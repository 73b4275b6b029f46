//! A year of history: a room with a million messages, and how long a page from its middle, a resume and a search take.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::task::JoinSet;
use veza_client::proto::v1::client_frame::Command;
use veza_client::proto::v1::{
    CreateRoom, History, JoinRoom, Publish, RoomCursor, RoomJoined, Search, Unsubscribe, View, history, push, reply,
    verdict,
};
use veza_client::{Connection, Error, Pushes};

use crate::chat::Carriers;
use crate::crowd::Opening;
use crate::report::{self, Report, say};
use crate::site::{Carrier, Site, SiteArgs};
use crate::{Failure, tokens};

/// Writers that fill the room. Each is told what all of them write, so they are few.
const WRITERS: usize = 2;
/// Of each, so that even all of them at one are fewer than a session may have.
const IN_FLIGHT: usize = 100;
/// What every so many-th message says besides, for searches that find little.
const RARE: u64 = 50_000;
const WORDS: [&str; 40] = [
    "album",
    "basse",
    "chanson",
    "concert",
    "danse",
    "écoute",
    "festival",
    "guitare",
    "harmonie",
    "instrument",
    "jazz",
    "kilohertz",
    "ligne",
    "mélodie",
    "nocturne",
    "orchestre",
    "piano",
    "quatuor",
    "rythme",
    "samples",
    "tempo",
    "unisson",
    "voix",
    "waveform",
    "xylophone",
    "yodel",
    "zither",
    "listening",
    "recorded",
    "mixing",
    "mastered",
    "streams",
    "artists",
    "playlists",
    "remixes",
    "singing",
    "drummers",
    "chorus",
    "verses",
    "bridges",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    site: SiteArgs,
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    messages: u64,
    /// A room that an earlier run has filled; else a new one is.
    #[arg(long)]
    room: Option<String>,
    /// How often each is asked.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    times: u32,
    /// How far behind a resume begins.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    behind: u64,
}

pub(crate) async fn run(args: Args) -> Result<Report, Failure> {
    let site = Site::find(&args.site).await?;
    let parameters = json!({ "messages": args.messages, "times": args.times, "behind": args.behind });
    let mut report = Report::new("year", args.site.json.clone(), parameters, site.server.version());
    let tokens = tokens::fetch(&site.server, args.site.token_command.as_deref(), "year", WRITERS + 1).await?;
    let carrier = Carriers::Ws.carriers(site.websocket())[0];
    let opening = Opening {
        endpoints: site.endpoints.clone(),
        target: site.target.clone(),
        sessions: tokens.into_iter().map(|token| (token, carrier.options())).collect(),
        rate: None,
        at_once: 16,
    };
    let crowd = opening.open("opening").await;
    if let Some(complaint) = crowd.complaint() {
        return Err(Failure::setup(format!("not all writers could connect: {complaint}")));
    }
    let mut sessions: Vec<_> = crowd.sessions.into_iter().flatten().collect();
    let (reader, mut pushes) = sessions.swap_remove(WRITERS);
    let room = args.room.clone().unwrap_or_else(|| format!("year-{:08x}", rand::random::<u32>()));
    if args.room.is_none() {
        let create = CreateRoom { room: room.clone(), title: "A year".into(), ..CreateRoom::default() };
        reader.command(Command::CreateRoom(create)).await.map_err(failed("the room"))?;
        fill(&mut report, &room, sessions, args.messages).await?;
    }
    report.figure("room", room.clone());
    measure(&mut report, &args, &room, &reader, &mut pushes, carrier).await?;
    Ok(report)
}

fn failed(what: &'static str) -> impl Fn(Error) -> Failure {
    move |error| Failure::setup(format!("{what}: {error}"))
}

/// What message `number` says: words whose order does not repeat, and now and then a rare one.
fn text(number: u64) -> String {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    let mut word = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        WORDS[(state >> 33) as usize % WORDS.len()]
    };
    let rare = if number % RARE == RARE / 2 { " theremin" } else { "" };
    format!("{} {} {} {} {} {number}{rare}", word(), word(), word(), word(), word())
}

async fn fill(
    report: &mut Report,
    room: &str,
    sessions: Vec<(Connection, Pushes)>,
    messages: u64,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let (mut writers, mut unread) = (Vec::new(), JoinSet::new());
    for (writer, mut pushes) in sessions {
        join_by(&writer, JoinRoom { room: room.to_owned(), ..JoinRoom::default() }).await?;
        // Left alone they would stop the link, and dropped they would end it.
        unread.spawn(async move { while pushes.next().await.is_ok() {} });
        writers.push(writer);
    }
    let publishing = (0..messages).map(|number| {
        let writer = writers[(number % writers.len() as u64) as usize].clone();
        let (cmid, body) = (format!("{number}"), text(number));
        let publish = Publish { room: room.to_owned(), cmid, body, ..Publish::default() };
        async move { writer.command(Command::Publish(publish)).await }
    });
    let mut answers = futures_util::stream::iter(publishing).buffer_unordered(writers.len() * IN_FLIGHT);
    let mut done = 0;
    while let Some(_stored) = answers.try_next().await.map_err(failed("a publish; raise VEZA_PUBLISH_PER_SECOND"))? {
        done += 1;
        if done % 100_000 == 0 {
            say(&format!("{done} of {messages} messages, {:.0} s", begun.elapsed().as_secs_f64()));
        }
    }
    report.decimal("filled_s", begun.elapsed().as_secs_f64());
    report.decimal("filled_per_second", messages as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}

async fn measure(
    report: &mut Report,
    args: &Args,
    room: &str,
    reader: &Connection,
    pushes: &mut Pushes,
    carrier: Carrier,
) -> Result<(), Failure> {
    let join = JoinRoom { room: room.to_owned(), ..JoinRoom::default() };
    let joined = join_by(reader, join).await?;
    let (epoch, head) = joined.room.map_or((0, 0), |room| (room.epoch, room.head));
    report.figure("head", head);
    report.figure("transport", format!("{:?}", carrier.transport()));

    for (name, view) in [("page_from_the_middle", View::Unspecified), ("page_of_everything", View::Everything)] {
        let mut times = report::histogram();
        for _ in 0..args.times {
            let middle = rand::random_range(head / 4..=head / 4 * 3);
            let anchor = Some(history::Anchor::AroundSeq(middle));
            let history = History { room: room.to_owned(), limit: 50, view: view.into(), anchor, thread: 0 };
            let page = timed(&mut times, reader.command(Command::History(history))).await.map_err(failed("a page"))?;
            let there =
                matches!(&page, reply::Result::HistoryPage(page) if page.messages.iter().any(|m| m.seq == middle));
            if !there {
                report.problem(format!("a page around #{middle} does not hold it"));
            }
        }
        report.latency(name, &times);
    }

    let mut times = report::histogram();
    for _ in 0..args.times {
        unsubscribe(reader, room).await?;
        let cursor = RoomCursor { room: room.to_owned(), epoch, last_seq: head - args.behind, ..RoomCursor::default() };
        let begun = Instant::now();
        let join = JoinRoom { room: room.to_owned(), cursor: Some(cursor), ..JoinRoom::default() };
        let joined = join_by(reader, join).await?;
        let recovered = matches!(joined.verdict.and_then(|v| v.outcome), Some(verdict::Outcome::Recovered(_)));
        let mut last = if recovered { head - args.behind } else { head };
        while last < head {
            match pushes.next().await {
                Ok(push::Event::Message(delivered)) => last = delivered.message.map_or(last, |message| message.seq),
                Ok(_) => {}
                Err(ended) => return Err(Failure::setup(format!("the reader's link ended: {ended}"))),
            }
        }
        report::record(&mut times, begun.elapsed());
        if !recovered {
            report.problem(format!("a resume {} behind was not recovered", args.behind));
        }
    }
    report.latency(&format!("resume_of_{}", args.behind), &times);

    for (name, query) in [
        ("search_rare", "theremin"),
        ("search_common", "chansons"),
        ("search_two_words", "mélodie piano"),
        ("search_prefix", "jazz orch*"),
        ("search_nothing", "bagpipes"),
    ] {
        let mut times = report::histogram();
        let mut found = 0;
        for _ in 0..args.times {
            let search = Search { room: room.to_owned(), query: query.to_owned(), limit: 20, ..Search::default() };
            let answer =
                timed(&mut times, reader.command(Command::Search(search))).await.map_err(failed("a search"))?;
            if let reply::Result::SearchResult(result) = answer {
                found = result.messages.len();
            }
        }
        report.latency(name, &times);
        report.figure(format!("{name}_found"), found);
        if (found == 0) != (query == "bagpipes") {
            report.problem(format!("a search for {query:?} found {found}"));
        }
    }
    Ok(())
}

async fn timed<T>(times: &mut Histogram<u64>, asking: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let answer = asking.await;
    report::record(times, begun.elapsed());
    // A pause, so that a per-connection quota of reads is no part of the figure.
    tokio::time::sleep(Duration::from_millis(5)).await;
    answer
}

async fn join_by(reader: &Connection, join: JoinRoom) -> Result<RoomJoined, Failure> {
    let answer = reader.command(Command::JoinRoom(join)).await.map_err(failed("a join"))?;
    let reply::Result::RoomJoined(joined) = answer else {
        return Err(Failure::setup(format!("a join was answered with {answer:?}")));
    };
    Ok(joined)
}

async fn unsubscribe(reader: &Connection, room: &str) -> Result<(), Failure> {
    let leave = Unsubscribe { room: room.to_owned() };
    reader.command(Command::Unsubscribe(leave)).await.map(drop).map_err(failed("an unsubscription"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rare_word_is_rare_and_no_two_messages_are_the_same() {
        let texts: std::collections::BTreeSet<_> = (0..2_000).map(text).collect();
        assert_eq!(texts.len(), 2_000);
        assert!(text(RARE / 2).ends_with("theremin") && !texts.iter().any(|text| text.contains("theremin")));
    }
}
