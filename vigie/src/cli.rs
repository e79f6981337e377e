//! What the command line accepts, and help that teaches.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use schemas::ModelName;
use uuid::Uuid;

use crate::simulator::SimulateOptions;

/// Keeps a production fraud model healthy: watches for drift, decides on retraining, has the model trained,
/// validates it, promotes it, and tells people.
#[derive(Debug, Parser)]
#[command(
    name = "vigie",
    version,
    max_term_width = 110,
    after_help = "Start here:\n  \
        vigie demo                          watch a model decay, be retrained and recover (no account, no network)\n  \
        vigie dev --sample                  a private broker, database and all services, until Ctrl-C\n  \
        vigie config check                  are my settings right?\n  \
        vigie check fraud-cards             is my model drifting right now?\n\n\
        Exit codes: 0 fine, 1 error, 2 drift found or decision declined, 3 could not look, 64 settings or arguments are wrong.\n\
        Results go to standard output, progress and logs to standard error."
)]
pub struct Cli {
    /// Settings file; else VIGIE_CONFIG, else ./vigie.toml if it exists.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub config: Option<PathBuf>,
    /// How results are written.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, help_heading = "Everywhere")]
    pub output: Output,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON document (or one per line, for streams), for programs.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replay months of card payments through the real services: a model decays, drift is found, it is retrained and recovers.
    Demo(DemoArgs),
    /// Run a private NATS and PostgreSQL and all five services in one process, until Ctrl-C.
    Dev(DevArgs),
    /// Check a model for drift now, or as of an instant, and show every metric.
    Check(CheckArgs),
    /// Ask for a retraining; the decider decides and says why.
    Retrain(RetrainArgs),
    /// Look at settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at events.
    #[command(subcommand)]
    Events(EventsCommand),
    /// Look at dead letters – messages that no retry could help – and deal with them.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Write simulated card payments to a Parquet file.
    Simulate(SimulateArgs),
}

/// Arguments of `vigie demo`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    vigie demo\n  \
    vigie demo --days 40 --seed 7\n  \
    vigie demo --data transactions.parquet\n\n\
    A file needs the columns of the Fraud Detection Handbook (TX_DATETIME, TX_FRAUD, TX_AMOUNT, …).\n\
    Everything runs on this machine in a private folder; nothing is left running.")]
pub struct DemoArgs {
    /// Replay this Parquet file instead of simulated payments.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Days to replay; default: 75 simulated days, or the whole file.
    #[arg(long, value_name = "DAYS")]
    pub days: Option<u32>,
    /// Seed of the simulated payments and of every training.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Folder for data, mails and models; emptied first.
    #[arg(long, value_name = "DIR", default_value = ".vigie/demo")]
    pub folder: PathBuf,
    /// Keep the servers running at the end, until Ctrl-C, to look around.
    #[arg(long)]
    pub stay: bool,
    /// Run each service as a process of its own, as in production, instead of all in one.
    #[arg(long)]
    pub processes: bool,
}

/// Arguments of `vigie dev`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Reads [models] and rules from vigie.toml. Database and broker are the private ones, models are trained and\n\
    registered here, and alerts are files: nothing leaves this machine, whatever file and environment say.\n\
    With --sample, four weeks of simulated payments that end now and a model `fraud-cards` over them are there to play with;\n\
    each start adds those that are missing since.\n\n\
    Other commands find these servers with the settings that it writes, e.g.\n  \
    vigie --config .vigie/dev/vigie.toml check fraud-cards"
)]
pub struct DevArgs {
    /// Folder of the private servers; kept, so that the next start finds everything again.
    #[arg(long, value_name = "DIR", default_value = ".vigie/dev")]
    pub folder: PathBuf,
    /// Load simulated payments and watch a model over them.
    #[arg(long)]
    pub sample: bool,
}

/// Arguments of `vigie check`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 stable, 2 drifted, 3 unknown (could not look), 1 error, 64 settings or arguments are wrong.\n\n\
    Examples:\n  \
    vigie check fraud-cards\n  \
    vigie check fraud-cards --as-of 2026-03-01T00:00:00Z --output json"
)]
pub struct CheckArgs {
    /// The model, as named in the settings.
    pub model: ModelName,
    /// Look as of this instant (RFC 3339, UTC): only rows before it and labels known at it count. Default: now.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    pub as_of: Option<DateTime<Utc>>,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// How long to wait for the answer, seconds.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

/// Arguments of `vigie retrain`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 a training was requested, 2 the decider declined, 1 error, 64 settings or arguments are wrong.\n\n\
    Examples:\n  \
    vigie retrain fraud-cards --reason \"new terminals in the south\"\n  \
    vigie retrain fraud-cards --reason \"incident 4711\" --force"
)]
pub struct RetrainArgs {
    /// The model, as named in the settings.
    pub model: ModelName,
    /// Why, for the record and for everyone who is told.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Skip the cooldown and the minimum of new rows. A training that is running still blocks.
    #[arg(long)]
    pub force: bool,
    /// Decide as of this instant (RFC 3339, UTC). Default: now.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    pub as_of: Option<DateTime<Utc>>,
    /// How long to wait for the answer, seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

/// `vigie config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the settings of all services: every mistake at once, with key, value, source and accepted range.
    Check,
    /// Show the settings in force and where each comes from; secrets are masked.
    Show,
}

/// `vigie events …`.
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Follow events as they happen, one line each.
    Tail(TailArgs),
}

/// `vigie dlq …`.
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// List dead letters of all services, newest first.
    List(DlqListArgs),
    /// Show a dead letter whole: headers, body, reason.
    Show {
        /// The letter's id, or its event's.
        id: Uuid,
    },
    /// Offer messages to their reader once more, after the cause is gone.
    Redrive(DlqDecideArgs),
    /// Put messages aside for good; they stay on record.
    Discard(DlqDecideArgs),
}

/// Arguments of `vigie dlq list`.
#[derive(Debug, Clone, Args)]
pub struct DlqListArgs {
    /// Also those that were dealt with.
    #[arg(long)]
    pub all: bool,
    /// At most this many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub limit: u64,
}

/// Arguments of `vigie dlq redrive` and `vigie dlq discard`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    vigie dlq list\n  \
    vigie dlq redrive 5f1d8d0c-7f0e-5c9b-8a52-1b6f0c56e01a --reason 'the model is in the settings now'\n\n\
    A redriven message has its effect once, however often it is redriven; one that is still wrong is parked again.")]
pub struct DlqDecideArgs {
    /// The letters' ids, as `vigie dlq list` shows them.
    #[arg(required = true, num_args = 1..=100)]
    pub ids: Vec<Uuid>,
    /// Why; recorded with who you are.
    #[arg(long)]
    pub reason: String,
}

/// Arguments of `vigie events tail`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    vigie events tail\n  \
    vigie events tail --subject 'drift.>' --since 2026-03-01T00:00:00Z\n  \
    vigie events tail --output json | jq .data.verdict")]
pub struct TailArgs {
    /// Only subjects that match this NATS pattern.
    #[arg(long, default_value = ">", value_name = "PATTERN")]
    pub subject: String,
    /// Begin with events stored since this instant (RFC 3339, UTC); default: only new ones.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    pub since: Option<DateTime<Utc>>,
    /// Only events of this model.
    #[arg(long)]
    pub model: Option<ModelName>,
    /// Stop after this many events.
    #[arg(long, value_name = "COUNT")]
    pub count: Option<u64>,
}

/// Arguments of `vigie simulate`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Drifts, each from a day on (day 0 is the first):\n  \
    amount-shift:factor=1.6,day=40      everybody spends 1.6 times as much (0.1 to 10)\n  \
    fraud-pattern:cards=3,day=40        a new fraud: three stolen cards a night, many small payments (1 to 1000)\n  \
    category-change:share=0.4,day=40    this share of merchants moves to a category that did not exist (0 to 1)\n  \
    missing-column:column=tx_amount,share=1,day=40\n  \
    \u{20}                                   this share of a feature's values is missing (0 to 1)\n\n\
    Examples:\n  \
    vigie simulate --out payments.parquet\n  \
    vigie simulate --out drifted.parquet --days 60 --drift amount-shift:factor=1.6,day=40\n\n\
    The process is that of the Fraud Detection Handbook: amounts above a limit, compromised terminals and leaked cards are\n\
    fraud; labels are known one day later.")]
pub struct SimulateArgs {
    /// The file to write.
    #[arg(long, value_name = "FILE.parquet")]
    pub out: PathBuf,
    /// Days of payments, 1 to 3650.
    #[arg(long, default_value_t = SimulateOptions::default().days)]
    pub days: u32,
    /// Days that are simulated before the first one written, 0 to 365: windows fill and frauds become common meanwhile.
    #[arg(long, value_name = "DAYS", default_value_t = SimulateOptions::default().warm_up_days)]
    pub warm_up_days: u32,
    /// Cardholders, 10 to 200000; each pays about twice a day.
    #[arg(long, default_value_t = SimulateOptions::default().customers)]
    pub customers: u32,
    /// Terminals, 10 to 200000.
    #[arg(long, default_value_t = SimulateOptions::default().terminals)]
    pub terminals: u32,
    /// The same seed gives the same payments, for ever.
    #[arg(long, default_value_t = SimulateOptions::default().seed)]
    pub seed: u64,
    /// Plant a drift, see below; may be repeated.
    #[arg(long = "drift", value_name = "KIND:KEY=VALUE,…")]
    pub drifts: Vec<String>,
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse()
        .map_err(|error| format!("{error}; expected an instant such as 2026-03-01T00:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_that_cannot_be_read_shows_how_one_is_written() {
        for text in ["yesterday", "2026-03-01", "2026-03-01T00:00"] {
            let error = Cli::try_parse_from(["vigie", "check", "m", "--as-of", text]).unwrap_err();
            assert!(
                error.to_string().contains("2026-03-01T00:00:00Z"),
                "{text}: {error}"
            );
        }
        assert!(Cli::try_parse_from(["vigie", "check", "m", "--as-of", "2026-03-01T00:00:00Z"]).is_ok());
    }
}
