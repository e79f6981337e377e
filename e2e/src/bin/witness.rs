//! The witness of trials as a process of its own.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    chassis::run::<e2e::faults::witness::Witness>().await
}
