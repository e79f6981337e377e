//! A candidate and held-out transactions become a verdict and a report.
//!
//! * [`judge`] – the verdict: pure. Start reading here.
//! * [`config`] – the gates, as settings.
//! * `artifact` – the candidate's bytes, whose digest is computed anew.
//! * `measure` – scores of the holdout become confusion, metrics and intervals.
//! * `handle` – the shell: load, score, judge, save, append to the outbox.
//! * `store` – the only file with SQL.
//!
//! What the trainer reports is compared, never trusted.

mod artifact;
pub mod config;
mod handle;
pub mod judge;
mod measure;
mod metrics;
mod store;

use chassis::{Alias, Context, Definition, Reader, Service, Tasks};
use schemas::EventKind;
use sqlx::migrate::Migrator;

pub use config::Config;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// The events it reads.
pub const SUBSCRIPTION: &[EventKind] = &[EventKind::ModelTrained];

/// Second names of its settings.
const ALIASES: &[Alias] = &[
    Alias {
        name: "MIN_RECALL_THRESHOLD",
        key: "validation.recall_min",
    },
    Alias {
        name: "MIN_PRECISION_THRESHOLD",
        key: "validation.precision_min",
    },
    Alias {
        name: "MLFLOW_TRACKING_URI",
        key: "mlflow.tracking_uri",
    },
    Alias {
        name: "MLFLOW_TRACKING_TOKEN",
        key: "mlflow.token",
    },
    Alias {
        name: "MLFLOW_TRACKING_USERNAME",
        key: "mlflow.username",
    },
    Alias {
        name: "MLFLOW_TRACKING_PASSWORD",
        key: "mlflow.password",
    },
    Alias {
        name: "MLFLOW_EXPERIMENT_NAME",
        key: "mlflow.experiment",
    },
];

/// The service.
#[derive(Debug)]
pub struct Validator;

impl Service for Validator {
    const DEFINITION: Definition = Definition {
        name: "validator",
        schema: "validator",
        about: "judges a candidate on held-out transactions before it may be promoted",
        defaults: &[include_str!("../config/default.toml"), transactions::DEFAULTS],
        aliases: &[ALIASES, transactions::ALIASES],
        migrator: &MIGRATOR,
    };
    type Config = Config;

    fn configure(reader: &Reader<'_>) -> Config {
        Config::read(reader)
    }

    async fn start(config: Config, context: Context, tasks: &mut Tasks) -> anyhow::Result<()> {
        handle::start(config, context, tasks)
    }
}
