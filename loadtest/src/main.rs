//! `veza-loadtest`: how much a Veza server carries, and whether everything arrived.

mod audio;
mod ceiling;
mod chaos;
mod chat;
mod check;
mod crowd;
mod database;
mod fairness;
mod fanout;
mod floor;
mod idle;
mod impair;
mod insert_floor;
mod member;
mod process;
mod quality;
mod recorder;
mod report;
mod rungs;
mod schedule;
mod scrape;
mod site;
mod slow;
mod tokens;
mod year;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use report::Report;

/// The server's allocator, so that the floor's memory and the server's are counted alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "veza-loadtest", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Many sessions that do nothing: handshakes per second and the server's memory per session.
    Idle(idle::Args),
    /// Rooms that talk: latency of publish to acknowledgement and to delivery, and whether every message arrived once.
    Chat(chat::Args),
    /// Live audio: latency from a publisher to its listeners, loss, and what a packet costs the server.
    Audio(audio::Args),
    /// As `audio`, and beside it what a datagram costs with less above it: by quinn alone, and by a bare `sendto`.
    Fanout(fanout::Args),
    /// The highest durable publish rate with a bounded p99, and at saturation; and bare inserts beside it.
    Ceiling(ceiling::Args),
    /// One of many subscribers stops reading: the server's memory, the others' p99, and what it has in the end.
    Slow(slow::Args),
    /// A room of ten thousand beside a room of two.
    Fairness(fairness::Args),
    /// A room with a million messages: pages, resumes, searches.
    Year(year::Args),
    /// Bare inserts: rows of an entry's shape, one commit for each batch.
    InsertFloor(insert_floor::Args),
    /// The real server and its database are killed while clients talk; what they saw is judged.
    Chaos(chaos::Args),
    /// Judges clients' event logs (docs/HISTORY.md): I1 to I12.
    Check(check::Args),
    /// How live audio sounds when packets are lost, and whether a change of rung is heard.
    Quality(quality::Args),
    /// How many rungs of live audio a core makes, beside libopus alone.
    Rungs(rungs::Args),
    /// A network that is worse than the one there is: a proxy for UDP and TCP with delay, loss, a bottleneck.
    Impair(impair::Args),
    /// The same sessions against a bare server with the same transport settings and nothing above them.
    Floor(floor::Args),
    /// The bare server itself, run by `floor` as a child process.
    #[command(hide = true)]
    FloorServer(floor::ServerArgs),
}

/// Why a run gives no figures, or figures that must not be believed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Setup(String),
    #[error(transparent)]
    Server(#[from] veza_client::ServerError),
    #[error("{what}: {why}")]
    Io { what: String, why: std::io::Error },
}

impl Failure {
    fn setup(why: impl Into<String>) -> Self {
        Self::Setup(why.into())
    }

    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |why| Self::Io { what, why }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = match Cli::parse().scenario {
        Scenario::Idle(args) => idle::run(args).await,
        Scenario::Chat(args) => chat::run(args).await,
        Scenario::Audio(args) => audio::run(args).await,
        Scenario::Fanout(args) => fanout::run(args).await,
        Scenario::Ceiling(args) => ceiling::run(args).await,
        Scenario::Slow(args) => slow::run(args).await,
        Scenario::Fairness(args) => fairness::run(args).await,
        Scenario::Year(args) => year::run(args).await,
        Scenario::InsertFloor(args) => insert_floor::run(args).await,
        Scenario::Chaos(args) => chaos::run(args).await,
        Scenario::Check(args) => check::run(args),
        Scenario::Quality(args) => quality::run(args),
        Scenario::Rungs(args) => rungs::run(args),
        Scenario::Impair(args) => return impair::run(args).await.map_or_else(failed, |()| ExitCode::SUCCESS),
        Scenario::Floor(args) => floor::run(args).await,
        Scenario::FloorServer(args) => return floor::serve(args).await.map_or_else(failed, |()| ExitCode::SUCCESS),
    };
    outcome.and_then(Report::publish).unwrap_or_else(failed)
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed over by map_or_else")]
fn failed(failure: Failure) -> ExitCode {
    report::say(&format!("veza-loadtest: {failure}"));
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
