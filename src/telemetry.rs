//! What the server tells of itself: metrics, logs, traces.

pub mod exporter;
pub mod logs;
pub mod metrics;
pub mod process;
pub mod traces;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{Config, Environment};
use traces::Traces;

/// The process's logs, spans and recorded metrics, from [`Telemetry::install`] to [`Telemetry::shutdown`].
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<Traces>,
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("RUST_LOG: {0}")]
    Filter(String),
    #[error("JAEGER_ENDPOINT: {0}")]
    Traces(String),
    #[error("logs are installed already")]
    Logs(#[from] TryInitError),
}

impl Telemetry {
    /// Once in a process, inside its runtime: logs to stdout, spans to the collector when tracing is on, metrics into
    /// the recorder that [`exporter::start`] shows. Panics are logged from now on.
    ///
    /// # Errors
    /// [`TelemetryError`], also when it is called a second time.
    pub fn install(config: &Config) -> Result<Self, TelemetryError> {
        let traces = match &config.monitoring.otlp_endpoint {
            Some(endpoint) if config.monitoring.tracing => Some(Traces::start(endpoint, config)?),
            Some(_) | None => None,
        };
        tracing_subscriber::registry()
            .with(logs::layer(config, std::io::stdout)?)
            .with(traces.as_ref().map(Traces::layer))
            .try_init()?;
        logs::log_panics();
        exporter::install();
        let label = |text: &str| -> &'static str { text.to_owned().leak() };
        let environment = match config.environment {
            Environment::Development => "development",
            Environment::Production => "production",
        };
        metrics::build_info(label(&config.service_name), label(&config.version), environment).set(1.0);
        Ok(Self { traces })
    }

    /// Sends what has been traced, for a few seconds at most. Logs go on until the process ends.
    pub async fn shutdown(self) {
        if let Some(traces) = self.traces {
            traces.shutdown().await;
        }
    }
}
