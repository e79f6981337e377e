//! The trainer-bridge's binary.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    chassis::run::<trainer_bridge::TrainerBridge>().await
}
