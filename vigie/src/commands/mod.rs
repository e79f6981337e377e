//! One file per verb.

mod check;
mod config;
mod demo;
mod dev;
mod events;
mod retrain;
mod simulate;

use std::process::ExitCode;

use chassis::settings::{COMMON_ALIASES, COMMON_DEFAULTS};
use chassis::telemetry::{self, Telemetry, TelemetrySettings};
use chassis::{Problems, Reader, Settings, Sources};

use crate::cli::{Cli, Command, ConfigCommand, EventsCommand};
use crate::output;

/// Runs a command and turns its outcome into an exit code.
pub async fn dispatch(cli: Cli) -> ExitCode {
    let output = cli.output;
    let sources = match Sources::of_process(cli.config) {
        Ok(sources) => sources,
        Err(problems) => return chassis::service::refuse_to_start(&problems),
    };
    let result = match cli.command {
        Command::Demo(args) => demo::run(output, args, sources).await,
        Command::Dev(args) => dev::run(args, sources).await,
        Command::Check(args) => check::run(output, args, &sources).await,
        Command::Retrain(args) => retrain::run(output, args, &sources).await,
        Command::Config(ConfigCommand::Check) => config::check(output, &sources),
        Command::Config(ConfigCommand::Show) => config::show(&sources),
        Command::Events(EventsCommand::Tail(args)) => events::tail(output, args, &sources).await,
        Command::Simulate(args) => simulate::run(output, &args),
    };
    match result {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<Problems>() {
            Some(problems) => chassis::service::refuse_to_start(problems),
            None => {
                output::report(output, &error);
                ExitCode::FAILURE
            }
        },
    }
}

/// Installs telemetry for commands that run services.
fn init_telemetry(sources: &Sources) -> anyhow::Result<Telemetry> {
    let settings = Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, sources)?;
    let reader = Reader::new(&settings);
    let telemetry_settings = TelemetrySettings::read(&reader);
    reader.finish()?;
    telemetry::init(&telemetry_settings, "vigie")
}
