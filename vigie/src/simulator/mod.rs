//! Card payments, simulated.
//!
//! Our own telling of the process that the Fraud Detection Handbook describes (Le Borgne, Siblini, Lebichot and
//! Bontempi, "Reproducible Machine Learning for Credit Card Fraud Detection", 2022, chapter 3): customers and
//! terminals live on a square; customers pay at terminals nearby, so often and so much as is their habit; fraud comes
//! in three scenarios. Labels are known one day later, and window features count only what is known. Added to it: a
//! merchant category, and drifts that can be planted.
//!
//! Everything begins from nothing: windows fill and frauds become common in the first five weeks. By default one of them
//! has passed when the first day is handed out, so a model of the first two weeks can be trained, and ages quickly.
//!
//! * [`SimulateOptions`], [`Drift`] – what to simulate; checked, with errors that name the option and its range.
//! * [`Simulator`] – an iterator of [`DayBatch`]; the same options give the same days, for ever.
//! * [`simulate`] – the same into a Parquet file.
//! * [`COLUMNS`], [`recommended`], [`NOT_MONITORED`] – the features, and which to use for what.
//! * [`ReplayFile`] – days of payments from a Parquet file of somebody else's.
//!
//! Inside: `draw` (random numbers) → `population` → `payments` (a day's payments and frauds) → `features` (in one pass
//! over `windows`) → `stream`.

mod batch;
mod columns;
mod draw;
mod drift;
mod features;
mod options;
mod parquet_file;
mod payments;
mod population;
mod replay_file;
mod stream;
#[cfg(test)]
mod tests;
mod windows;

pub use batch::{DayBatch, FeatureColumn, FeatureValues, Origins};
pub use columns::{COLUMNS, ColumnInfo, NOT_MONITORED, recommended};
pub use drift::{Drift, InvalidDrift};
pub use options::{InvalidOptions, LABEL_DELAY, SimulateOptions};
pub use parquet_file::{Progress, SimulateError, simulate};
pub use payments::Scenario;
pub use replay_file::{ReplayColumns, ReplayError, ReplayFile};
pub use stream::Simulator;
