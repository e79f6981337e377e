//! One file per verb.

mod audit;
mod check;
mod config;
mod demo;
mod dev;
mod dlq;
mod events;
mod models;
mod provision;
mod report;
mod retrain;
mod schema;
mod selftest;
mod simulate;

use std::process::ExitCode;

use chassis::settings::{COMMON_ALIASES, COMMON_DEFAULTS};
use chassis::telemetry::{self, Telemetry, TelemetrySettings};
use chassis::{Problems, Reader, Settings, Sources};

use crate::cli::{Cli, Command, ConfigCommand, EventsCommand, ModelsCommand, Output};
use crate::output::{self, ReaderGone, Usage};
use crate::simulator::{InvalidDrift, InvalidOptions, SimulateError};

/// Runs a command and turns its outcome into an exit code.
pub async fn dispatch(cli: Cli) -> ExitCode {
    let output = cli.output;
    let about_settings = matches!(cli.command, Command::Config(_));
    let sources = match Sources::of_process(cli.config) {
        Ok(sources) => sources,
        Err(problems) => return refuse(output, about_settings, &problems),
    };
    let result = match cli.command {
        Command::Demo(args) => demo::run(output, args, sources).await,
        Command::Dev(args) => dev::run(args, sources).await,
        Command::Check(args) => check::run(output, args, &sources).await,
        Command::Report(args) => tokio::task::block_in_place(|| report::run(output, &args, &sources)),
        Command::Selftest(args) => tokio::task::block_in_place(|| selftest::run(output, &args, &sources)),
        Command::Retrain(args) => retrain::run(output, args, &sources).await,
        Command::Config(ConfigCommand::Check) => config::check(output, &sources),
        Command::Config(ConfigCommand::Show) => config::show(output, &sources),
        Command::Events(EventsCommand::Tail(args)) => events::tail(output, args, &sources).await,
        Command::Dlq(command) => dlq::run(output, command, &sources).await,
        Command::Audit(command) => audit::run(output, command, &sources).await,
        Command::Models(ModelsCommand::At(args)) => models::at(output, &args, &sources).await,
        Command::Provision(command) => Box::pin(provision::run(output, command, &sources)).await,
        Command::Simulate(args) => simulate::run(output, &args),
        Command::Schema(args) => schema::run(output, &args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            if let Some(problems) = error.downcast_ref::<Problems>() {
                return refuse(output, about_settings, problems);
            }
            if error.is::<ReaderGone>() {
                return ExitCode::SUCCESS;
            }
            output::report(output, &error);
            if error.chain().any(is_usage) {
                ExitCode::from(chassis::service::EXIT_SETTINGS)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Says what is wrong with the settings: as the result of a command that was asked for it, else beside it.
fn refuse(output: Output, about_settings: bool, problems: &Problems) -> ExitCode {
    if about_settings && output == Output::Json {
        // Whoever does not read the answer still has the exit code.
        let _unread = output::print(output, &config::mistakes(problems), |_| String::new());
        return ExitCode::from(chassis::service::EXIT_SETTINGS);
    }
    chassis::service::refuse_to_start(problems)
}

/// Whether an error is about what was typed.
fn is_usage(error: &(dyn std::error::Error + 'static)) -> bool {
    let target = matches!(error.downcast_ref(), Some(SimulateError::Target { .. }));
    target || error.is::<Usage>() || error.is::<InvalidOptions>() || error.is::<InvalidDrift>()
}

/// Installs telemetry for commands that run services.
fn init_telemetry(sources: &Sources) -> anyhow::Result<Telemetry> {
    let settings = Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, sources)?;
    let reader = Reader::new(&settings);
    let telemetry_settings = TelemetrySettings::read(&reader);
    reader.finish()?;
    telemetry::init(&telemetry_settings, "vigie")
}
