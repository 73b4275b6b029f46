use std::process::ExitCode;

use veza::app;
use veza::cli::{self, Terminal};
use veza::config::Source;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut terminal = Terminal { out: &mut std::io::stdout(), err: &mut std::io::stderr() };
    let serve = |config| -> cli::Serving { Box::pin(async move { Ok(app::serve(config).await?) }) };
    ExitCode::from(cli::run(std::env::args_os(), &Source::of_process(), &mut terminal, serve))
}
