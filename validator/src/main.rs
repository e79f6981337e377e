//! The validator as a process of its own.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    chassis::run::<validator::Validator>().await
}
