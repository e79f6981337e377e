//! Triggers and facts become one decision, explained.
//!
//! * [`decide`] – the rules: pure, no clock, no I/O, no randomness. Start reading here.
//! * [`config`] – the policy, as settings.
//! * `handle` – the shell: load, decide, save, append to the outbox, in one transaction.
//! * `store` – the only file with SQL.
//! * `metrics` – the numbers it exports.
//!
//! A trigger is a drift, the daily slot, an operator's wish, or the end of a training while a drift waited.

pub mod config;
pub mod decide;
mod handle;
mod metrics;
mod store;

use chassis::{Context, Definition, Reader, Service, Tasks};
use schemas::EventKind;
use sqlx::migrate::Migrator;

pub use config::Config;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// The events it reads.
pub const SUBSCRIPTION: &[EventKind] = &[
    EventKind::DriftDetected,
    EventKind::RetrainAsked,
    EventKind::TrainingStarted,
    EventKind::TrainingFailed,
    EventKind::ModelTrained,
    EventKind::ModelValidated,
    EventKind::ModelPromoted,
    EventKind::PromotionRefused,
];

/// The service.
#[derive(Debug)]
pub struct RetrainDecider;

impl Service for RetrainDecider {
    const DEFINITION: Definition = Definition {
        name: "retrain-decider",
        schema: "retrain_decider",
        about: "decides whether a model is retrained, and says why",
        defaults: &[include_str!("../config/default.toml"), transactions::DEFAULTS],
        aliases: &[transactions::ALIASES],
        migrator: &MIGRATOR,
    };
    type Config = Config;

    fn configure(reader: &Reader<'_>) -> Config {
        Config::read(reader)
    }

    async fn start(config: Config, context: Context, tasks: &mut Tasks) -> anyhow::Result<()> {
        handle::start(config, &context, tasks)
    }
}
