//! The operator's command.
//!
//! * [`cli`] – what it accepts; help that teaches.
//! * `commands` – one file per verb.
//! * `account` – a loop as it is on record, told to people.
//! * [`host`] – all services in one process, or each as its own.
//! * [`operator`] – how a person's wish becomes an event, and how the answer is awaited.
//! * [`provision`] – identities and rights for the servers.
//! * [`report`] – two files compared without any server.
//! * [`demo`] – the replay of months of payments through the real services.
//! * [`selftest`] – what the rules do on a user's own data when nothing moves, and when something does.
//! * [`simulator`] – card payments, simulated.

mod account;
pub mod cli;
mod commands;
pub mod demo;
pub mod host;
pub mod operator;
mod output;
pub mod provision;
pub mod report;
pub mod selftest;
pub mod simulator;

use std::process::ExitCode;

use clap::Parser as _;

/// The whole `main`.
pub async fn run() -> ExitCode {
    chassis::install_crypto();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no mistakes; clap knows the difference.
            let code = if error.use_stderr() {
                chassis::service::EXIT_SETTINGS
            } else {
                0
            };
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(code),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    commands::dispatch(cli).await
}
