//! Logs: readable in development, one JSON object a line in production. Nothing a peer wrote can act on a terminal
//! or begin a line of its own.

use std::fmt::{self, Write};
use std::io::IsTerminal;

use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use super::TelemetryError;
use crate::config::{Config, Environment};

/// Decoders remark on whatever a peer sends; what matters of it they return. `RUST_LOG=symphonia_core=debug` hears them.
const QUIET: &str = "symphonia=error";

/// Whether `RUST_LOG` can be understood.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_filter(text: &str) -> Result<(), String> {
    let allowed = "allowed: a filter like info or veza=debug,quinn=warn";
    EnvFilter::try_new(text).map(|_| ()).map_err(|error| format!("{error}; {allowed}"))
}

/// The log of `config`, written to `writer`.
pub(super) fn layer<S, W>(config: &Config, writer: W) -> Result<Box<dyn Layer<S> + Send + Sync>, TelemetryError>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let refused = |error: &dyn fmt::Display| TelemetryError::Filter(error.to_string());
    let filter = EnvFilter::try_new(&config.log_filter).map_err(|error| refused(&error))?;
    let decoders = QUIET.parse().map_err(|error| refused(&error))?;
    let filter = filter.add_directive(decoders);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    Ok(match config.environment {
        Environment::Production => {
            let format = JsonLine::new(&config.service_name, &config.version);
            layer.fmt_fields(JsonFields::new()).event_format(format).with_filter(filter).boxed()
        }
        Environment::Development => {
            let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            layer.compact().with_ansi(colours).fmt_fields(EscapedFields).with_filter(filter).boxed()
        }
    })
}

/// Logs every panic with its place, before whatever catches it. The standard hook's text goes nowhere then.
pub(super) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("(without a message)");
        tracing::error!(place, panic = message, "panic");
    }));
}

/// tracing's JSON with the service's name and version in front.
struct JsonLine {
    inner: Format<Json>,
    /// `{"service":"…","version":"…",`
    head: String,
}

impl JsonLine {
    fn new(service: &str, version: &str) -> Self {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        Self {
            inner: Format::default().json().flatten_event(true).with_current_span(false).with_span_list(true),
            head: format!("{{\"service\":{},\"version\":{},", quoted(service), quoted(version)),
        }
    }
}

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, JsonFields>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::with_capacity(512);
        self.inner.format_event(ctx, Writer::new(&mut line), event)?;
        out.write_str(&self.head)?;
        let line = line.trim_end_matches('\n');
        Escaping(&mut out).write_str(line.strip_prefix('{').unwrap_or(line))?;
        out.write_char('\n')
    }
}

/// `name=value` with everything escaped that is not to be printed, whichever way the value was recorded.
#[derive(Clone, Copy)]
struct EscapedFields;

impl<'writer> FormatFields<'writer> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = EscapedVisitor { writer, first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct EscapedVisitor<'writer> {
    writer: Writer<'writer>,
    first: bool,
    result: fmt::Result,
}

impl tracing::field::Visit for EscapedVisitor<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        if self.result.is_err() {
            return;
        }
        let space = if std::mem::take(&mut self.first) { "" } else { " " };
        let (name, sign) = if field.name() == "message" { ("", "") } else { (field.name(), "=") };
        self.result =
            write!(self.writer, "{space}{name}{sign}").and_then(|()| write!(Escaping(&mut self.writer), "{value:?}"));
    }
}

/// Writes control characters and what turns the direction of text as JSON's escapes. JSON itself escapes only those
/// below U+0020, and terminals act on more.
struct Escaping<'a, W>(&'a mut W);

impl<W: Write> Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_control() || turns(c)) {
            let (before, after) = rest.split_at(at);
            let odd = after.chars().next().expect("find stands at a character");
            write!(self.0, "{before}\\u{:04x}", u32::from(odd))?;
            rest = &after[odd.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const EVIL: &str = "\u{1b}[31mred\u{1b}[0m\r\n2026-01-01T00:00:00Z ERROR forged\u{9b}m\u{202e}\u{7}";

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged in `environment` while `say` runs.
    fn logged(environment: &str, say: impl FnOnce()) -> String {
        let mut config = Config::read(&[("RUST_LOG", "info,quiet=warn"), ("VERSION", "1.2.3")].into()).unwrap().config;
        if environment == "production" {
            config.environment = Environment::Production;
        }
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::registry().with(layer(&config, move || writer.clone()).unwrap());
        tracing::subscriber::with_default(subscriber, say);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn evil_events() {
        let span = tracing::info_span!("session", user = %EVIL, agent = EVIL);
        let _inside = span.enter();
        tracing::info!(name = EVIL, shown = %EVIL, debugged = ?EVIL, "said {EVIL}");
    }

    #[test]
    fn what_a_peer_writes_stays_on_its_line_and_off_the_terminal() {
        for environment in ["development", "production"] {
            let text = logged(environment, evil_events);
            assert_eq!(text.lines().count(), 1, "{environment}: {text:?}");
            let odd = text.trim_end_matches('\n').chars().find(|c| c.is_control());
            assert_eq!(odd, None, "{environment}: {text:?}");
            assert!(!text.contains('\u{202e}'), "{environment}: {text:?}");
        }
        let line: serde_json::Value = serde_json::from_str(&logged("production", evil_events)).unwrap();
        assert_eq!(line["name"], EVIL, "an escape is the same text to who reads JSON");
    }

    #[test]
    fn production_writes_json_with_service_and_version() {
        let text = logged("production", || {
            let _inside = tracing::info_span!("session", id = 7).entered();
            tracing::warn!(room = "lobby", messages = 3, "late \"quoted\"");
            tracing::info!("second");
        });
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["service"], "veza-stream-server");
        assert_eq!(lines[0]["version"], "1.2.3");
        assert_eq!(lines[0]["level"], "WARN");
        assert_eq!(lines[0]["message"], "late \"quoted\"");
        assert_eq!(lines[0]["room"], "lobby");
        assert_eq!(lines[0]["messages"], 3);
        assert_eq!(lines[0]["spans"][0]["id"], 7);
        assert!(lines[0]["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')));
    }

    #[test]
    fn development_is_readable() {
        let text = logged("development", || tracing::info!(room = "lobby", messages = 3, "joined"));
        assert!(text.contains("joined room=\"lobby\" messages=3"), "{text:?}");
    }

    #[test]
    fn the_filter_decides() {
        let text = logged("development", || {
            tracing::debug!("too fine");
            tracing::info!(target: "quiet", "muted");
            tracing::warn!(target: "quiet", "heard");
        });
        assert!(text.contains("heard") && !text.contains("too fine") && !text.contains("muted"), "{text}");
    }

    #[test]
    fn filters_that_cannot_be_understood() {
        assert!(check_filter("info,veza=debug,[session{user=alice}]=trace").is_ok());
        assert!(check_filter("veza=loud").unwrap_err().contains("allowed: a filter like"));
    }
}
