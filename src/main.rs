use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use veza::cli::{self, Failure, Terminal};
use veza::config::{Config, Source};
use veza::tasks::Tasks;
use veza::telemetry::{exporter, process};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut terminal = Terminal { out: &mut std::io::stdout(), err: &mut std::io::stderr() };
    let code = cli::run(std::env::args_os(), &Source::of_process(), &mut terminal, |config| Box::pin(serve(config)));
    ExitCode::from(code)
}

/// Watches the process and shows its metrics until it is interrupted.
async fn serve(config: Config) -> Result<(), Failure> {
    let tasks = Tasks::new();
    process::watch(&tasks, config.performance.memory_limit_bytes);
    exporter::maintain(&tasks);
    if config.monitoring.metrics {
        let wanted = SocketAddr::new(config.network.host, config.monitoring.prometheus_port);
        let bound =
            exporter::start(&tasks, wanted).await.map_err(|error| format!("PROMETHEUS_PORT {wanted}: {error}"))?;
        tracing::info!(address = %bound, "metrics are served at /metrics");
    }
    tokio::signal::ctrl_c().await?;
    tasks.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
