//! `vigie`: the operator's command.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    vigie::run().await
}
