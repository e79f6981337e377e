//! What the command line accepts, and help that teaches.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use schemas::ModelName;
use transactions::table::As;
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
        vigie demo                          watch a model decay, be retrained and recover (no account; network only to fetch servers)\n  \
        vigie dev --sample                  a private broker, database and all services, until Ctrl-C\n  \
        vigie config check                  are my settings right?\n  \
        vigie check fraud-cards             is my model drifting right now?\n  \
        vigie report old.parquet new.parquet  what moved between two files? (no server)\n\n\
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
    /// Compare two files of transactions, Parquet or CSV, without any server: what moved, by the rules of the hourly check.
    Report(ReportArgs),
    /// Try the rules on your own reference: how often they alarm though nothing moved, and what they find of planted changes.
    Selftest(SelfTestArgs),
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
    /// Look at the record of what happened: verify that nobody changed it, or tell the story of a loop.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Look at models.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Give each service an identity with rights that are no larger than its work.
    #[command(subcommand)]
    Provision(ProvisionCommand),
    /// Write simulated card payments to a Parquet file.
    Simulate(SimulateArgs),
    /// Print the JSON Schema of what Vigie writes: a report, a self-test, or an event.
    Schema(SchemaArgs),
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

/// Arguments of `vigie schema`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit codes: 0 done, 1 error, 64 there is no such document.\n\n\
    Examples:\n  \
    vigie schema\n  \
    vigie schema report > vigie.report.v1.schema.json\n  \
    vigie schema drift.detected\n\n\
    A field is added, and never changed or taken away, without a new version in the name of the document.")]
pub struct SchemaArgs {
    /// `report`, `selftest`, or an event such as `drift.detected`. Default: list them.
    #[arg(value_name = "DOCUMENT")]
    pub document: Option<String>,
}

/// Arguments of `vigie check`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 stable, 2 drifted, 3 unknown (could not look), 1 error, 64 settings or arguments are wrong.\n\n\
    Examples:\n  \
    vigie check fraud-cards\n  \
    vigie check fraud-cards --as-of 2026-03-01T00:00:00Z --output json\n  \
    vigie check --files january.parquet february.parquet      without any server; `vigie report` can more"
)]
pub struct CheckArgs {
    /// The model, as named in the settings.
    #[arg(required_unless_present = "files")]
    pub model: Option<ModelName>,
    /// Compare two files instead, without any server: what is compared with, and what is looked at.
    #[arg(long, num_args = 2, value_names = ["REFERENCE", "CURRENT"], conflicts_with_all = ["model", "as_of", "reason", "timeout"])]
    pub files: Vec<PathBuf>,
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

/// Arguments of `vigie report`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 stable, 2 drifted or broken, 3 unknown (could not look), 1 error, 64 settings or arguments are wrong.\n\n\
    Examples:\n  \
    vigie report january.parquet february.parquet\n  \
    vigie report january.parquet february.parquet --target is_fraud --score score --html report.html\n  \
    vigie report train.csv today.csv --ignore customer_id --type merchant_code=category --output json\n\n\
    Kinds of columns are found out: numbers are compared as numbers, text as categories; instants are not compared, nor is what\n\
    looks like the number or the name of a row. Thresholds are those of the hourly check: [drift] in vigie.toml, or its defaults.\n\
    `.csv`, `.tsv` and `.txt` are read as text with a line of names; everything else as Parquet."
)]
pub struct ReportArgs {
    /// What is compared with, e.g. the payments a model was trained on.
    #[arg(value_name = "REFERENCE")]
    pub reference: PathBuf,
    /// What is looked at.
    #[arg(value_name = "CURRENT")]
    pub current: PathBuf,
    /// Column that says what was fraud: 1, 0, or nothing where nobody knows.
    #[arg(long, value_name = "COLUMN")]
    pub target: Option<String>,
    /// Column with the model's score, 0 to 1.
    #[arg(long, value_name = "COLUMN")]
    pub score: Option<String>,
    /// Score from which a row counts as fraud, 0 to 1; for recall and precision.
    #[arg(long, value_name = "SCORE", default_value_t = 0.5, value_parser = unit)]
    pub operating_threshold: f64,
    /// Which columns, and how far they may move.
    #[command(flatten)]
    pub columns: ColumnArgs,
    /// Learn to tell rows of the two files apart, by all features together: finds what no single feature shows. Some seconds.
    #[arg(long)]
    pub together: bool,
    /// Say in which segments of this column (a country, a channel) features moved; may be repeated. At most 200 levels.
    #[arg(long = "segment", value_name = "COLUMN")]
    pub segments: Vec<String>,
    /// Write the report as a page, too: one file, which loads nothing.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl ReportArgs {
    /// Two files, and nothing else said.
    pub fn of(reference: PathBuf, current: PathBuf) -> Self {
        Self {
            reference,
            current,
            target: None,
            score: None,
            operating_threshold: 0.5,
            columns: ColumnArgs::default(),
            together: false,
            segments: Vec::new(),
            html: None,
        }
    }
}

/// Which columns of a file are looked at, and from where on something is said of them.
#[derive(Debug, Clone, Args)]
pub struct ColumnArgs {
    /// Look at this column; may be repeated. Default: all.
    #[arg(long = "feature", value_name = "COLUMN")]
    pub features: Vec<String>,
    /// Do not look at this column; may be repeated.
    #[arg(long, value_name = "COLUMN")]
    pub ignore: Vec<String>,
    /// A column that is not what it seems, `COLUMN=number` or `COLUMN=category`; may be repeated.
    #[arg(long = "type", value_name = "COLUMN=KIND", value_parser = column_type)]
    pub types: Vec<(String, As)>,
    /// Say so when a feature moved farther than chance explains and its PSI exceeds this, 0 to 10; `drift.data_threshold`
    /// (0.3) stays what retrains.
    #[arg(long, value_name = "PSI", default_value_t = TELL_FROM, value_parser = tell_from)]
    pub tell_from: f64,
}

/// What a report tells of unless told otherwise: about what a mean has that moves by a twentieth of the standard deviation, and more
/// than features of the Fraud Detection Handbook's payments move by from one month to the next, where nothing happens.
const TELL_FROM: f64 = 0.003;

impl Default for ColumnArgs {
    fn default() -> Self {
        Self {
            features: Vec::new(),
            ignore: Vec::new(),
            types: Vec::new(),
            tell_from: TELL_FROM,
        }
    }
}

/// Arguments of `vigie selftest`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 done, 1 error, 64 settings or arguments are wrong.\n\n\
    Examples:\n  \
    vigie selftest january.parquet\n  \
    vigie selftest january.parquet --rows 500,10000 --windows 1000 --output json\n\n\
    The file is divided by chance, ten times: one half makes the bins, windows are drawn from the other. So nothing has moved\n\
    between them, and whatever a rule says is a false alarm; then changes are planted in one feature at a time. Weekends and seasons, which lie between\n\
    real windows, are not in it. Thresholds are those of the hourly check: [drift] in vigie.toml, or its defaults."
)]
pub struct SelfTestArgs {
    /// Payments that nothing happened in, Parquet or CSV.
    #[arg(value_name = "REFERENCE")]
    pub reference: PathBuf,
    /// Sizes of windows, rows; those that the file is too small for are left out.
    #[arg(long, value_name = "ROWS", value_delimiter = ',', default_values_t = [500, 2_000, 10_000, 50_000], value_parser = window)]
    pub rows: Vec<usize>,
    /// Windows of each size; a tenth of it for each planted change.
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = windows)]
    pub windows: usize,
    /// The same seed draws the same windows.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Which columns, and how far they may move.
    #[command(flatten)]
    pub columns: ColumnArgs,
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
    /// Show a dead letter: headers, body, reason, and what was decided. JSON has the body whole.
    Show {
        /// The letter's id, or its event's.
        id: Uuid,
        /// The whole body; without, at most 4 KiB of it.
        #[arg(long)]
        full: bool,
    },
    /// Offer messages to their reader once more, after the cause is gone.
    Redrive(DlqDecideArgs),
    /// Put messages aside for good; they stay on record.
    #[command(after_help = "Examples:\n  \
        vigie dlq discard 5f1d8d0c-7f0e-5c9b-8a52-1b6f0c56e01a --reason 'sent by a test'\n  \
        vigie dlq discard --class undecodable --reason 'rubbish of a scanner' --dry-run\n\n\
        A discarded message never has its effect; it stays on record (`vigie dlq list --all`). Who waited for its outcome was\n\
        told when it was parked. Each letter is a decision of its own: one that cannot be dealt with does not keep the others,\n\
        and makes the exit code 1.")]
    Discard(DlqDecideArgs),
}

/// Arguments of `vigie dlq list`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    vigie dlq list --service trainer-bridge --class handler_permanent\n  \
    vigie dlq list --all --limit 1000 --output json")]
pub struct DlqListArgs {
    /// Also those that were dealt with.
    #[arg(long)]
    pub all: bool,
    /// By what they have in common.
    #[command(flatten)]
    pub which: DlqWhich,
    /// At most this many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub limit: u64,
}

/// Which letters, by what they have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct DlqWhich {
    /// Only those of this service, e.g. `trainer-bridge`.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only those of this class, e.g. `schema_invalid`, `handler_permanent`, `deliveries_exhausted`, `unknown_model`.
    #[arg(long)]
    pub class: Option<String>,
    /// Only those about this model.
    #[arg(long)]
    pub model: Option<String>,
}

/// Arguments of `vigie dlq redrive` and `vigie dlq discard`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    vigie dlq redrive 5f1d8d0c-7f0e-5c9b-8a52-1b6f0c56e01a --reason 'the model is in the settings now'\n  \
    vigie dlq redrive --class unknown_model --model fraud-cards --reason 'the model is in the settings now' --dry-run\n\n\
    A redriven message has its effect once, however often it is redriven; one that is still wrong is parked again.\n\
    Each letter is a decision of its own: one that cannot be dealt with does not keep the others, and makes the exit code 1.")]
pub struct DlqDecideArgs {
    /// The letters' ids, as `vigie dlq list` shows them; or none, and what they have in common.
    #[arg(num_args = 0..=100)]
    pub ids: Vec<Uuid>,
    /// By what they have in common.
    #[command(flatten)]
    pub which: DlqWhich,
    /// At most this many of those that are chosen by what they have in common, the newest first.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub limit: u64,
    /// At most this many a second, so that a reader is not flooded.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub per_second: u64,
    /// Only show what would be dealt with.
    #[arg(long)]
    pub dry_run: bool,
    /// Why; recorded with who you are.
    #[arg(long)]
    pub reason: String,
}

/// `vigie provision …`.
#[derive(Debug, Subcommand)]
pub enum ProvisionCommand {
    /// Make a key for each identity, and the accounts and permissions for nats-server's configuration.
    Nats(ProvisionNatsArgs),
    /// Make streams and consumers as settings and release ask for, so that services need no right to.
    Streams(ProvisionStreamsArgs),
    /// Write the SQL that makes one role for each service, with rights in its own tables only.
    Postgres(ProvisionPostgresArgs),
    /// Bring the tables of all services up to date, as their owner, and give each role its rights in them.
    #[command(
        after_help = "Example, as role `vigie_owner`, after `vigie provision postgres` and after each upgrade:\n  \
        FRAUD_DATABASE_URL_FILE=owner.url vigie provision schemas"
    )]
    Schemas,
}

/// Arguments of `vigie provision postgres`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    vigie provision postgres --print | psql -v ON_ERROR_STOP=1 --single-transaction \"$ADMINISTRATOR_URL\"\n  \
    FRAUD_DATABASE_URL=postgres://vigie_owner@db/fraud_db?sslmode=verify-full vigie provision schemas\n\n\
    The tables that [models] names are given to vigie_source to read: name that role in `transactions.url`.")]
pub struct ProvisionPostgresArgs {
    /// Write the SQL to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "print")]
    pub out: Option<PathBuf>,
    /// Write the SQL to standard output, as without `--out`.
    #[arg(long)]
    pub print: bool,
}

/// Arguments of `vigie provision nats`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    vigie provision nats --seeds secrets/nats --out vigie-accounts.conf\n  \
    vigie provision nats --seeds secrets/nats --print | diff vigie-accounts.conf -\n\n\
    Seeds are secrets: one file each, readable by you alone, never shown and never written over. The configuration holds public\n\
    keys only. To rotate a key: rename NAME.nk to NAME.old.nk and run this again; both keys are accepted until NAME.old.nk is gone.")]
pub struct ProvisionNatsArgs {
    /// Folder of the seeds; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = ".vigie/nats-seeds")]
    pub seeds: PathBuf,
    /// Write the configuration to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "print")]
    pub out: Option<PathBuf>,
    /// Write the configuration to standard output, as without `--out`.
    #[arg(long)]
    pub print: bool,
}

/// Arguments of `vigie provision streams`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    NATS_NKEY_FILE=secrets/nats/provisioner.nk vigie provision streams\n  \
    NATS_NKEY_FILE=secrets/nats/provisioner.nk vigie provision streams --watch\n\n\
    Running it again changes nothing. Run it after each upgrade, or leave it running with --watch.")]
pub struct ProvisionStreamsArgs {
    /// Go on looking until Ctrl-C, and make again what somebody deletes.
    #[arg(long)]
    pub watch: bool,
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

/// `vigie audit …`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verify that nothing on record was changed, removed, added or moved since it was sealed.
    Verify(AuditVerifyArgs),
    /// Tell the story of a loop, from the first metric to the promotion and the alerts, over all services.
    Show(AuditShowArgs),
}

/// Arguments of `vigie audit verify`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 every chain holds, 1 one is broken (or could not be read), 64 settings or arguments are wrong.\n\n\
    Examples:\n  \
    vigie audit verify\n  \
    vigie audit verify --service trainer-bridge --output json\n  \
    vigie audit verify --anchor trainer-bridge:1874:7f83b165…\n\n\
    Each service appends what it says, receives and parks to its event log, and seals each row with a hash over the row and the\n\
    hash before it. Whoever can rewrite a whole chain and its head is found only by a head that was noted elsewhere: keep the\n\
    printed anchors outside of this database, e.g. daily, and give them to --anchor later."
)]
pub struct AuditVerifyArgs {
    /// Only the event log of this service, e.g. `drift-monitor`; `vigie` has what people asked for.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// A head noted earlier that must be part of the chain, as `vigie audit verify` prints it; may be repeated.
    #[arg(long = "anchor", value_name = "SERVICE:LINK:HASH", value_parser = anchor)]
    pub anchors: Vec<ServiceAnchor>,
}

/// A noted head, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAnchor {
    /// The service.
    pub service: String,
    /// Its head.
    pub anchor: chassis::audit::Anchor,
}

/// Arguments of `vigie audit show`.
#[derive(Debug, Clone, Args)]
#[command(
    group = clap::ArgGroup::new("which").required(true),
    after_help = "Examples:\n  \
    vigie audit show --correlation 019cecdc-8374-73a1-81d2-c3b4a5968778\n  \
    vigie audit show --event 309cbac0-6cb6-594d-9605-dcc73415d652 --output json\n\n\
    Alerts, `vigie events tail --output json` and the tables show the ids. The record is kept when the broker has forgotten the\n\
    events. `vigie audit verify` says whether it is still as it was written."
)]
pub struct AuditShowArgs {
    /// The loop with this correlation id: the id of the event that began it.
    #[arg(long, value_name = "ID", value_parser = id, group = "which")]
    pub correlation: Option<Uuid>,
    /// The loop that this event belongs to; the event is marked with `>`.
    #[arg(long, value_name = "ID", value_parser = id, group = "which")]
    pub event: Option<Uuid>,
}

/// `vigie models …`.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Who was champion at an instant, with the digest of its bytes and the event that made it champion.
    At(ModelsAtArgs),
}

/// Arguments of `vigie models at`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    vigie models at 2026-03-01T00:00:00Z\n  \
    vigie models at 2026-03-01T00:00:00Z --model fraud-cards --output json\n\n\
    A champion counts from the instant its promotion came into force until its successor's did; in a replay, of the replayed\n\
    time. `vigie audit show --event ID` with the promotion's event tells what led to it.")]
pub struct ModelsAtArgs {
    /// The instant (RFC 3339, UTC).
    #[arg(value_name = "INSTANT", value_parser = instant)]
    pub at: DateTime<Utc>,
    /// Only this model.
    #[arg(long)]
    pub model: Option<ModelName>,
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

fn window(text: &str) -> Result<usize, String> {
    let rows = text.parse().ok().filter(|rows| (10..=1_000_000).contains(rows));
    rows.ok_or_else(|| "expected a whole number of rows from 10 to 1000000".to_owned())
}

fn windows(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (10..=100_000).contains(count));
    count.ok_or_else(|| "expected a whole number from 10 to 100000".to_owned())
}

fn unit(text: &str) -> Result<f64, String> {
    let expected = || "expected a number from 0 to 1".to_owned();
    let value: f64 = text.parse().map_err(|_| expected())?;
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(expected())
    }
}

fn tell_from(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=10.0).contains(value));
    value.ok_or_else(|| "expected a number from 0 to 10".to_owned())
}

fn column_type(text: &str) -> Result<(String, As), String> {
    match text.rsplit_once('=') {
        Some((column, "number")) => Ok((column.to_owned(), As::Numbers)),
        Some((column, "category")) => Ok((column.to_owned(), As::Categories)),
        _ => Err("expected COLUMN=number or COLUMN=category".to_owned()),
    }
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse()
        .map_err(|error| format!("{error}; expected an instant such as 2026-03-01T00:00:00Z"))
}

fn id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| {
        "expected an id such as 309cbac0-6cb6-594d-9605-dcc73415d652, as `vigie events tail --output json` shows them"
            .to_owned()
    })
}

fn anchor(text: &str) -> Result<ServiceAnchor, String> {
    let expected = "expected SERVICE:LINK:HASH as `vigie audit verify` prints it: a service, a number from 1, 64 hexadecimal digits";
    let mut parts = text.split(':');
    let (Some(service), Some(link), Some(hash), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(expected.to_owned());
    };
    let link = link.parse::<i64>().ok().filter(|link| *link > 0);
    let digits = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    match link {
        Some(link) if digits && !service.is_empty() => Ok(ServiceAnchor {
            service: service.to_owned(),
            anchor: chassis::audit::Anchor {
                link,
                hash: hash.to_ascii_lowercase(),
            },
        }),
        _ => Err(expected.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_read_as_it_is_printed_and_refused_with_its_form() {
        let digits = "0123456789abcdef".repeat(4);
        let read = anchor(&format!("drift-monitor:17:{}", digits.to_uppercase())).unwrap();
        assert_eq!(
            (read.service.as_str(), read.anchor.link, read.anchor.hash.as_str()),
            ("drift-monitor", 17, digits.as_str())
        );
        for wrong in [
            String::new(),
            format!("drift-monitor:{digits}"),
            format!(":1:{digits}"),
            format!("drift-monitor:0:{digits}"),
            format!("drift-monitor:one:{digits}"),
            format!("drift-monitor:1:{}", &digits[1..]),
            format!("drift-monitor:1:x{}", &digits[1..]),
            format!("drift-monitor:1:{digits}:"),
        ] {
            let refused = anchor(&wrong).unwrap_err();
            assert!(refused.contains("SERVICE:LINK:HASH"), "{wrong}: {refused}");
        }
    }

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
