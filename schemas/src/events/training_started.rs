//! `training.started.v1`, published by trainer-bridge; read by retrain-decider and whoever audits.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{DecisionId, JobId};

/// The training run of a decision began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct TrainingStarted {
    /// The job.
    pub job_id: JobId,
    /// The decision it serves.
    pub decision_id: DecisionId,
    /// The decision's instant, UTC.
    pub as_of: DateTime<Utc>,
    /// Where it runs: `local` or `databricks`.
    pub backend: String,
    /// Attempt, from 1.
    #[cfg_attr(feature = "generate", schemars(range(min = 1)))]
    pub attempt: u32,
    /// The backend's own run id, e.g. a Databricks run; none for `local`.
    pub run_id: Option<String>,
    /// A page that shows the run, if there is one.
    pub run_url: Option<String>,
}
