//! `model.trained.v1`, published by trainer-bridge; read by validator, retrain-decider and whoever audits.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{DecisionId, Finite, JobId, ModelVersion, Sha256Digest, Share, Window};

/// A candidate exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct ModelTrained {
    /// The candidate's version.
    pub version: ModelVersion,
    /// The job that made it.
    pub job_id: JobId,
    /// The decision it serves.
    pub decision_id: DecisionId,
    /// The decision's instant, UTC.
    pub as_of: DateTime<Utc>,
    /// Where it was trained: `local` or `databricks`.
    pub backend: String,
    /// E.g. `logistic_regression`, `random_forest`.
    pub algorithm: String,
    /// Where the model's bytes are, and which bytes they must be.
    pub artifact: Artifact,
    /// Rows the model was fitted on.
    pub training_window: Window,
    /// Rows the operating threshold was chosen on; disjoint from training and holdout.
    pub threshold_window: Window,
    /// Rows set aside for validation: later than everything the training saw.
    pub holdout_window: Window,
    /// Rows fitted on, count.
    pub training_rows: u64,
    /// Frauds among them, count.
    pub training_frauds: u64,
    /// A row counts as predicted fraud when its score is at least this.
    pub operating_threshold: Share,
    /// Seed of everything random in the training.
    pub seed: u64,
    /// Wall time of the training, seconds.
    #[cfg_attr(feature = "generate", schemars(extend("minimum" = 0)))]
    pub duration_seconds: Finite,
    /// What the trainer says of the model; compared, never trusted.
    pub reported: Vec<ReportedMetric>,
    /// The tracking run, when a tracking server is in use.
    pub mlflow_run_id: Option<String>,
}

/// Where a model's bytes are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct Artifact {
    /// `file:///…` or `mlflow-artifacts:/…`.
    pub uri: String,
    /// SHA-256 of the bytes.
    pub sha256: Sha256Digest,
    /// Size in bytes.
    pub bytes: u64,
    /// Format of the bytes, e.g. `vigie.model.v1`.
    pub format: String,
}

/// A number that the trainer reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct ReportedMetric {
    /// E.g. `average_precision`.
    pub name: String,
    /// On which rows, e.g. `threshold`.
    pub slice: String,
    /// The value.
    pub value: Finite,
}
