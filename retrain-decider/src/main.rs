//! The retrain-decider as a process of its own.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    chassis::run::<retrain_decider::RetrainDecider>().await
}
