//! The notifier's binary.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    chassis::run::<notifier::Notifier>().await
}
