//! The training core: labelled columns in, a model artefact out.
//!
//! No clock, no files, no database: everything it needs arrives as a value, and the same values give the same
//! bytes. [`train`] fits every candidate on the training slice, scores them all on the threshold slice through
//! the very code that will serve them (`scoring`), keeps the one with the best average precision there, and
//! chooses its operating threshold there too. The holdout slice is not an argument: it cannot leak.
//!
//! * [`data`] – slices of rows, and what they must hold at least.
//! * [`encode`] – how columns become inputs: imputation, standardisation, one-hot levels.
//! * [`logistic`], [`forest`] – one algorithm one file, on smartcore.
//! * [`watch`] – progress and cancellation.

pub mod data;
pub mod encode;
pub mod forest;
pub mod logistic;
pub mod watch;

mod choose;
mod run;
#[cfg(test)]
mod tests;

pub use choose::ThresholdRule;
pub use data::{NamedColumn, Slice, TooLittle, Values};
pub use forest::ForestParameters;
pub use logistic::LogisticParameters;
pub use run::{CandidateReport, Identity, Parameters, Trained, TrainingError, train};
pub use watch::{Silent, Stage, Watch};
