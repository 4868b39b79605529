//! The `blockyard` command; see the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // Quiet unless asked: BLOCKYARD_LOG takes a filter such as `debug` or `blockyard_block=trace`.
    let filter = tracing_subscriber::EnvFilter::from_env("BLOCKYARD_LOG");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    ExitCode::from(blockyard::run(std::env::args_os()))
}
