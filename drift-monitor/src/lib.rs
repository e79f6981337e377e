//! Windows of transactions become profiles, metrics and a verdict.
//!
//! * [`judge`] – metrics and thresholds become a verdict: pure, the only place where they meet. Start here.
//! * [`config`] – windows, thresholds, evidence, as settings.
//! * `estimate` – what scores let expect before labels are known.
//! * [`breakage`], [`explain`] – what broke rather than drifted; what moved within a feature, and since when.
//! * `reference` – the champion's training window becomes bins and counts.
//! * [`segments`], `by_segment` – which part of the rows moved, and how rows are read for it.
//! * `window` – hours become counts; the sum of stored hours and the newest rows is the window.
//! * `in_place` – the same of a source that counts its rows itself.
//! * `measure` – counts become metrics; a metric that cannot be measured says why.
//! * `look` – champion, reference, windows and metrics of one check.
//! * `report` – what was found becomes the bodies of events.
//! * `handle` – the shell: look, judge, record, announce, in one transaction.
//! * `store` – the only file with SQL.

pub mod breakage;
mod by_segment;
pub mod config;
mod estimate;
pub mod explain;
mod handle;
mod in_place;
pub mod judge;
mod look;
pub mod measure;
mod metrics;
pub mod reference;
mod report;
pub mod segments;
mod store;
mod window;

use chassis::{Alias, Context, Definition, Reader, Service, Tasks};
use schemas::EventKind;
use sqlx::migrate::Migrator;

pub use config::Config;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// The events it reads.
pub const SUBSCRIPTION: &[EventKind] = &[EventKind::DriftCheckRequested, EventKind::ModelPromoted];

/// Second names of its settings.
const ALIASES: &[Alias] = &[
    Alias {
        name: "DATA_DRIFT_THRESHOLD",
        key: "drift.data_threshold",
    },
    Alias {
        name: "CONCEPT_DRIFT_THRESHOLD",
        key: "drift.concept_threshold",
    },
];

/// The service.
#[derive(Debug)]
pub struct DriftMonitor;

impl Service for DriftMonitor {
    const DEFINITION: Definition = Definition {
        name: "drift-monitor",
        schema: "drift_monitor",
        about: "watches a model's transactions for data, target and concept drift",
        defaults: &[include_str!("../config/default.toml"), transactions::DEFAULTS],
        aliases: &[ALIASES, transactions::ALIASES],
        migrator: &MIGRATOR,
    };
    type Config = Config;

    fn configure(reader: &Reader<'_>) -> Config {
        Config::read(reader)
    }

    async fn start(config: Config, context: Context, tasks: &mut Tasks) -> anyhow::Result<()> {
        handle::start(config, context, tasks).await
    }
}
