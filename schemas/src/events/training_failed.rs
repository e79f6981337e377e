//! `training.failed.v1`, published by trainer-bridge; read by retrain-decider, notifier and whoever audits.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{DecisionId, JobId};

/// The training run ended without a model; no further attempt follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct TrainingFailed {
    /// The job.
    pub job_id: JobId,
    /// The decision it served.
    pub decision_id: DecisionId,
    /// The decision's instant, UTC.
    pub as_of: DateTime<Utc>,
    /// Where it ran: `local` or `databricks`.
    pub backend: String,
    /// Attempts made, 1 or more.
    #[cfg_attr(feature = "generate", schemars(range(min = 1)))]
    pub attempts: u32,
    /// What kind of failure.
    pub failure: TrainingFailure,
    /// One sentence for people.
    pub detail: String,
    /// The backend's own run id, if one was made.
    pub run_id: Option<String>,
    /// A page that shows the run, if there is one.
    pub run_url: Option<String>,
}

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub enum TrainingFailure {
    /// The run itself failed.
    RunFailed,
    /// The deadline passed; the run was cancelled.
    TimedOut,
    /// Someone cancelled the run.
    Cancelled,
    /// The rows do not suffice to train: too few, no fraud, or a column is missing.
    DataInsufficient,
    /// The backend refused for good, e.g. for lack of rights.
    Refused,
    /// A kind that a later release added.
    #[serde(other)]
    Other,
}

impl TrainingFailure {
    /// The word used in tables and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RunFailed => "run_failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::DataInsufficient => "data_insufficient",
            Self::Refused => "refused",
            Self::Other => "other",
        }
    }
}
