//! The command line: what `veza` can be asked, and its exit codes.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use futures_util::future::BoxFuture;
use veza_proto::{DeviceId, UserId};

use crate::auth::{Auth, Grant};
use crate::chat::{self, ChatArgs};
use crate::config::{self, Config, Loaded, Source};
use crate::publish::{self, PublishArgs};
use crate::store::{self, Versions};
use crate::telemetry::Telemetry;

/// All went well.
pub const EXIT_OK: u8 = 0;
/// Something failed while it was done.
pub const EXIT_FAILED: u8 = 1;
/// Wrong arguments or a wrong configuration: nothing was begun.
pub const EXIT_CONFIGURATION: u8 = 2;

/// How long the runtime's last tasks and blocking calls may take when everything else has ended.
const RUNTIME_END: Duration = Duration::from_secs(1);

/// What goes wrong in a command, told to the terminal with all its causes.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The server's run, from its start to its end.
pub type Serving = BoxFuture<'static, Result<(), Failure>>;

/// Real-time server of the Veza music platform: chat over WebTransport, QUIC and WebSocket.
#[derive(Debug, Parser)]
#[command(name = "veza", version, after_help = "Everything is configured by the environment; see `veza config`.")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (what `veza` without a command does)
    Serve,
    /// Show the effective configuration, secrets masked
    Config(ConfigArguments),
    /// Make a token for a user; needs a private key, which development has by itself
    Token(TokenArguments),
    /// Bring the database's schema up to date, which a starting server does too
    Migrate(MigrateArguments),
    /// Copy a SQLite database into a new file; the server may be running
    Backup(BackupArguments),
    /// Make the database from a copy; the server must not be running
    Restore(RestoreArguments),
    /// Chat in the terminal
    Chat(ChatArgs),
    /// Publish a file as a live stream
    Publish(PublishArgs),
}

#[derive(Debug, Args)]
struct ConfigArguments {
    /// Print the documentation of every variable as a Markdown table instead
    #[arg(long)]
    markdown: bool,
}

#[derive(Debug, Args)]
struct MigrateArguments {
    /// Only tell what would be done; the exit code is 1 when something would
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct BackupArguments {
    /// The file to write; there must be none of this name
    file: PathBuf,
}

#[derive(Debug, Args)]
struct RestoreArguments {
    /// What `veza backup` has written. Leave it out for PostgreSQL, after pg_restore
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct TokenArguments {
    /// The user's id
    #[arg(long, value_parser = |text: &str| UserId::parse(text).map_err(|why| why.to_string()))]
    user: UserId,
    /// How long the token is good for: 90s, 15m, 1h, 7d
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    ttl: Duration,
    /// What the user may join of premium rooms; may be given several times
    #[arg(long = "entitlement", value_name = "NAME")]
    entitlements: Vec<String>,
    /// Which of the user's devices it is for
    #[arg(long, value_parser = |text: &str| DeviceId::parse(text).map_err(|why| why.to_string()))]
    device: Option<DeviceId>,
}

/// Where a command writes: results to `out`, everything else to `err`.
pub struct Terminal<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
}

/// Does what `arguments` (with the program's name first) ask and returns the exit code. `serve` runs the server until
/// it is told to stop.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    source: &Source,
    terminal: &mut Terminal<'_>,
    serve: impl FnOnce(Config) -> Serving,
) -> u8 {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(answer) => return usage(&answer, terminal),
    };
    let done = match arguments.command.unwrap_or(Command::Serve) {
        Command::Config(ConfigArguments { markdown: true }) => {
            say(terminal.out, &config::markdown());
            Ok(())
        }
        Command::Config(ConfigArguments { markdown: false }) => show(source, terminal),
        Command::Token(arguments) => token(&arguments, source, terminal),
        Command::Migrate(arguments) => migrate(&arguments, source, terminal),
        Command::Backup(arguments) => backup(&arguments, source, terminal),
        Command::Restore(arguments) => restore(&arguments, source, terminal),
        Command::Chat(arguments) => apart(chat::run(arguments)),
        Command::Publish(arguments) => apart(publish::run(arguments)),
        Command::Serve => load(source).and_then(|loaded| run_server(loaded, serve)),
    };
    match done {
        Ok(()) => EXIT_OK,
        Err(Ended::Configuration(problems)) => {
            say(terminal.err, &format!("error: {problems}\n"));
            EXIT_CONFIGURATION
        }
        Err(Ended::Failed(failure)) => {
            say(terminal.err, &format!("error: {}\n", with_causes(failure.as_ref())));
            EXIT_FAILED
        }
    }
}

/// Why a command did not do what it was asked.
enum Ended {
    Configuration(config::Problems),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Ended {
    fn from(failure: E) -> Self {
        Ended::Failed(failure.into())
    }
}

fn load(source: &Source) -> Result<Loaded, Ended> {
    Config::read(source).map_err(Ended::Configuration)
}

fn show(source: &Source, terminal: &mut Terminal<'_>) -> Result<(), Ended> {
    let Loaded { warnings, shown, .. } = load(source)?;
    say(terminal.out, &config::table(&shown));
    for warning in warnings {
        say(terminal.err, &format!("warning: {warning}\n"));
    }
    Ok(())
}

fn token(arguments: &TokenArguments, source: &Source, terminal: &mut Terminal<'_>) -> Result<(), Ended> {
    let Loaded { config, .. } = load(source)?;
    let auth = Auth::load(&config.auth, config.environment, &config.data_dir)?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let TokenArguments { user, ttl, entitlements, device } = arguments;
    let grant = Grant { user: user.clone(), device: device.clone(), entitlements: entitlements.clone() };
    let issued = auth.issue(&grant, *ttl, u64::try_from(now_ms)?)?;
    say(terminal.out, &format!("{}\n", issued.token));
    Ok(())
}

fn migrate(arguments: &MigrateArguments, source: &Source, terminal: &mut Terminal<'_>) -> Result<(), Ended> {
    let Loaded { config, .. } = load(source)?;
    let runtime = runtime()?;
    let (database, data_dir) = (&config.database, &config.data_dir);
    let Versions { found, wanted } = if arguments.check {
        runtime.block_on(store::versions(database, data_dir))?
    } else {
        runtime.block_on(store::migrate(database, data_dir))?
    };
    let from = if found == 0 { "no schema yet".to_owned() } else { format!("schema version {found}") };
    if found == wanted {
        say(terminal.out, &format!("{from}, up to date\n"));
    } else if found > wanted {
        return Err(Ended::Failed(format!("{from}, but this server knows only up to {wanted}").into()));
    } else if arguments.check {
        return Err(Ended::Failed(format!("{from}, to be brought to {wanted} by `veza migrate`").into()));
    } else {
        say(terminal.out, &format!("{from}, brought to {wanted}\n"));
    }
    Ok(())
}

fn backup(arguments: &BackupArguments, source: &Source, terminal: &mut Terminal<'_>) -> Result<(), Ended> {
    let Loaded { config, .. } = load(source)?;
    runtime()?.block_on(store::backup(&config.database, &config.data_dir, &arguments.file))?;
    say(terminal.out, &format!("copied to {}\n", arguments.file.display()));
    Ok(())
}

fn restore(arguments: &RestoreArguments, source: &Source, terminal: &mut Terminal<'_>) -> Result<(), Ended> {
    let Loaded { config, .. } = load(source)?;
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let restored = store::restore(&config.database, &config.data_dir, arguments.file.as_deref(), now_ms);
    runtime()?.block_on(restored)?;
    say(terminal.out, "restored; every room has a new epoch, so clients know that their logs may have been longer\n");
    Ok(())
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Runs a client in the terminal.
fn apart<E: Error + Send + Sync + 'static>(client: impl Future<Output = Result<(), E>>) -> Result<(), Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(client);
    // Reading the terminal cannot be cancelled, so the runtime does not wait for it.
    runtime.shutdown_background();
    done.map_err(|error| Ended::Failed(Box::new(error)))
}

fn run_server(loaded: Loaded, serve: impl FnOnce(Config) -> Serving) -> Result<(), Ended> {
    let Loaded { config, warnings, .. } = loaded;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.performance.worker_threads)
        .max_blocking_threads(config.performance.blocking_threads)
        .thread_name("veza")
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let telemetry = Telemetry::install(&config)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let served = serve(config).await;
        telemetry.shutdown().await;
        served
    });
    runtime.shutdown_timeout(RUNTIME_END);
    Ok(served?)
}

/// clap's own answer: help and version are results, the rest are mistakes.
fn usage(answer: &clap::Error, terminal: &mut Terminal<'_>) -> u8 {
    let text = answer.render().to_string();
    if answer.use_stderr() {
        say(terminal.err, &text);
        EXIT_CONFIGURATION
    } else {
        say(terminal.out, &text);
        EXIT_OK
    }
}

/// A reader that went away (`veza config | head`) is no failure of ours.
fn say(to: &mut dyn Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Errors that show their cause themselves would say it twice.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// A whole number with `s`, `m`, `h` or `d`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    units
        .iter()
        .find_map(|(unit, seconds)| {
            let number: u64 = text.strip_suffix(*unit)?.parse().ok()?;
            number.checked_mul(*seconds).map(Duration::from_secs)
        })
        .ok_or_else(|| "write a whole number and s, m, h or d, like 1h".into())
}

#[cfg(test)]
mod tests {
    use veza_engine::ledger::{Content, Settings, Write};
    use veza_proto::v1::RoomKind;
    use veza_proto::{Cmid, RoomId};

    use super::*;
    use crate::store::{Anchor, View};

    struct Said {
        code: u8,
        out: String,
        err: String,
    }

    fn veza(arguments: &[&str], variables: &[(&str, &str)]) -> Said {
        let source = variables.iter().copied().collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let arguments = std::iter::once("veza").chain(arguments.iter().copied()).map(OsString::from);
        let mut terminal = Terminal { out: &mut out, err: &mut err };
        let code = run(arguments, &source, &mut terminal, |_| panic!("nobody asked to serve"));
        Said { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
    }

    #[test]
    fn a_token_is_all_that_stdout_holds_and_the_server_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = [("VEZA_DATA_DIR", dir.path().to_str().unwrap())];
        let said = veza(&["token", "--user", "alice", "--ttl", "90s"], &data);
        assert_eq!((said.code, said.err.as_str()), (EXIT_OK, ""));
        let config = Config::read(&data.into()).unwrap().config;
        let auth = Auth::load(&config.auth, config.environment, &config.data_dir).unwrap();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let identity = auth.verify(said.out.trim_end(), now_ms).unwrap();
        assert_eq!(identity.user.as_str(), "alice");
        assert!((now_ms + 80_000..=now_ms + 90_000).contains(&identity.expires_ms));
    }

    #[test]
    fn a_token_needs_a_private_key_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("public.pem");
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                      -----END PUBLIC KEY-----\n";
        std::fs::write(&path, public).unwrap();
        let said = veza(&["token", "--user", "alice"], &[("AUTH_KEY_FILE", path.to_str().unwrap())]);
        assert_eq!((said.code, said.out.as_str()), (EXIT_FAILED, ""));
        assert!(said.err.contains("needs a private key"), "{}", said.err);
    }

    #[test]
    fn the_configuration_is_shown_without_secrets_and_warned_about() {
        let variables = [("REDIS_URL", "redis://:hunter2@redis"), ("VEZA_DATADIR", "/x")];
        let said = veza(&["config"], &variables);
        assert_eq!(said.code, EXIT_OK);
        assert!(said.out.contains("REDIS_URL") && said.out.contains("redis://***@redis"), "{}", said.out);
        assert!(said.err.contains("did you mean VEZA_DATA_DIR?"), "{}", said.err);
        assert!(!said.out.contains("hunter2") && !said.err.contains("hunter2"));
    }

    #[test]
    fn the_documentation_needs_no_valid_configuration() {
        let said = veza(&["config", "--markdown"], &[("PORT", "many")]);
        assert_eq!((said.code, said.err.as_str()), (EXIT_OK, ""));
        assert_eq!(said.out, config::markdown());
    }

    #[test]
    fn a_wrong_configuration_stops_every_command_before_it_begins() {
        for command in [&["config"][..], &["token", "--user", "alice"], &["serve"], &[]] {
            let said = veza(command, &[("PORT", "many"), ("WS_PORT", "few")]);
            assert_eq!((said.code, said.out.as_str()), (EXIT_CONFIGURATION, ""));
            assert!(said.err.contains("PORT: given \"many\"") && said.err.contains("WS_PORT: given \"few\""));
        }
    }

    /// A room with a message, its backup, more of it, and the database as it was.
    #[test]
    fn a_backup_is_restored_with_new_epochs() {
        let dir = tempfile::tempdir().unwrap();
        let data = [("VEZA_DATA_DIR", dir.path().to_str().unwrap())];
        let file = dir.path().join("copy.db");
        let copy = file.to_str().unwrap();
        assert_eq!(veza(&["backup", copy], &data).code, EXIT_FAILED, "there is nothing to copy");
        assert!(!file.exists());
        let said = veza(&["migrate", "--check"], &data);
        assert_eq!((said.code, said.out.as_str()), (EXIT_FAILED, ""));
        assert!(said.err.contains("no schema yet, to be brought to 8"), "{}", said.err);
        assert!(veza(&["migrate"], &data).out.contains("no schema yet, brought to 8"));
        for arguments in [&["migrate"][..], &["migrate", "--check"]] {
            assert_eq!(veza(arguments, &data).out, "schema version 8, up to date\n");
        }

        let room = RoomId::parse("lobby").unwrap();
        let config = Config::read(&data.into()).unwrap().config;
        let runtime = runtime().unwrap();
        let create = Write::CreateRoom {
            room: room.clone(),
            title: "Lobby".into(),
            topic: String::new(),
            kind: RoomKind::Public,
            settings: Settings::of(RoomKind::Public),
            creator: Some(UserId::parse("alice").unwrap()),
            at_ms: 7_000,
        };
        let say = |cmid: &str| Write::Append {
            room: room.clone(),
            author: UserId::parse("alice").unwrap().into(),
            cmid: Cmid::parse(cmid).unwrap(),
            content: Content::text("hello"),
            at_ms: 7_001,
        };
        let open = || runtime.block_on(store::open(&config.database, &config.data_dir)).unwrap().store;
        let store = open();
        runtime.block_on(store.commit(&[create, say("c1")])).unwrap();
        let said = veza(&["backup", copy], &data);
        assert_eq!((said.code, said.err.as_str()), (EXIT_OK, ""), "while it is in use");
        runtime.block_on(store.commit(&[say("c2")])).unwrap();
        let before = runtime.block_on(store.room(&room)).unwrap().unwrap();
        runtime.block_on(store.close());
        let said = veza(&["backup", copy], &data);
        assert_eq!(said.code, EXIT_FAILED, "a copy is never overwritten");
        assert_eq!(veza(&["restore", copy], &data).code, EXIT_FAILED, "neither is a database");

        for name in ["veza.db", "veza.db-wal", "veza.db-shm"] {
            let _absent = std::fs::remove_file(dir.path().join(name));
        }
        let said = veza(&["restore", copy], &data);
        assert_eq!((said.code, said.err.as_str()), (EXIT_OK, ""));
        let store = open();
        let after = runtime.block_on(store.room(&room)).unwrap().unwrap();
        let replay = store.entries(&room, before.epoch, View::Everything, Anchor::After(0), 10, None);
        assert!(runtime.block_on(replay).unwrap().is_empty(), "a cursor of before finds another log");
        assert_eq!((after.head, after.title.as_str()), (1, "Lobby"));
        assert!(after.epoch > before.epoch, "{} {}", after.epoch, before.epoch);
    }

    #[test]
    fn help_and_version_are_results_and_mistakes_are_not() {
        let said = veza(&["--version"], &[]);
        assert_eq!((said.code, said.out.as_str()), (EXIT_OK, concat!("veza ", env!("CARGO_PKG_VERSION"), "\n")));
        assert!(veza(&["--help"], &[]).out.contains("token"));
        for mistake in [&["sereve"][..], &["token"], &["token", "--user", ""], &["token", "--user", "a", "--ttl", "1"]]
        {
            let said = veza(mistake, &[]);
            assert_eq!((said.code, said.out.as_str()), (EXIT_CONFIGURATION, ""), "{mistake:?}");
            assert!(!said.err.is_empty());
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        for bad in ["", "h", "1", "-1h", "1.5h", "1w", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(with_causes(&Outer(std::io::Error::other("inner"))), "outer: inner");
    }
}
