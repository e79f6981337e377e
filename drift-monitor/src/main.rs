//! The drift-monitor as a process of its own.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    chassis::run::<drift_monitor::DriftMonitor>().await
}
