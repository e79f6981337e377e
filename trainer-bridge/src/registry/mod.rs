//! Where models are registered and which one is champion: one trait, two registries.
//!
//! PostgreSQL decides (see `store`); a registry carries the decision out where other tools look. Every call may be
//! repeated: it looks first and acts only on what is missing.

pub mod embedded;
pub mod mlflow;
pub mod mlflow_answers;
pub mod mlflow_client;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use chassis::rest::CallError;
use chrono::{DateTime, Utc};
use schemas::events::Artifact;
use schemas::{DecisionId, EventId, ModelName, ModelVersion};

use crate::job::{Candidate, Order};

/// A call's answer, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send + 'a>>;

/// Somewhere models are registered.
pub trait Registry: Send + Sync + std::fmt::Debug {
    /// The word in events: `embedded` or `mlflow`.
    fn name(&self) -> &'static str;

    /// Makes the candidate known; the same one again gives the same registration.
    fn register<'a>(&'a self, candidate: &'a Registering<'a>) -> Answer<'a, Registration>;

    /// Makes a registered version champion, or finds that it is one already; then reads back.
    fn promote<'a>(&'a self, promotion: &'a Promoting) -> Answer<'a, ()>;

    /// The registry's number of the version that it hands out as champion of a model; none without one, and in a registry
    /// that cannot differ from the tables.
    fn champion<'a>(&'a self, model: &'a ModelName) -> Answer<'a, Option<String>>;
}

/// What is to be registered.
#[derive(Debug)]
pub struct Registering<'a> {
    /// The job's order.
    pub order: &'a Order,
    /// The version.
    pub version: &'a ModelVersion,
    /// The candidate.
    pub candidate: &'a Candidate,
    /// The artefact's bytes, verified.
    pub bytes: &'a [u8],
    /// `local` or `databricks`.
    pub backend: &'static str,
    /// Loop it belongs to.
    pub correlation_id: EventId,
    /// Trace it belongs to.
    pub trace_id: Option<&'a str>,
    /// When it was registered first, so that repetitions log the same.
    pub at: DateTime<Utc>,
}

/// How a registry knows a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registration {
    /// The registry's own version number, e.g. MLflow's `7`.
    pub registry_version: Option<String>,
    /// The tracking run.
    pub run_id: Option<String>,
    /// How the registry addresses the model, e.g. `models:/fraud-cards/7`.
    pub model_uri: Option<String>,
}

/// What is to become champion.
#[derive(Debug, Clone, PartialEq)]
pub struct Promoting {
    /// The model.
    pub model: ModelName,
    /// The version.
    pub version: ModelVersion,
    /// How the registry knows it.
    pub registration: Registration,
    /// The decision it serves.
    pub decision_id: DecisionId,
    /// Strictly increasing per model.
    pub fence: i64,
    /// The bytes that were validated.
    pub artifact: Artifact,
    /// Loop it belongs to.
    pub correlation_id: EventId,
    /// Trace it belongs to.
    pub trace_id: Option<String>,
    /// The registry's number of the champion it replaces, as PostgreSQL knows it.
    pub replaces: Option<String>,
}

/// Why a registry did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It may work later.
    #[error("{detail}")]
    Transient {
        /// What happened.
        detail: String,
        /// How long the server asks us to wait.
        retry_after: Option<Duration>,
    },
    /// Asking again cannot help.
    #[error("{0}")]
    Permanent(String),
}

impl RegistryError {
    /// A transient error without a wish of the server's.
    pub fn transient(detail: impl Into<String>) -> Self {
        Self::Transient {
            detail: detail.into(),
            retry_after: None,
        }
    }
}

impl From<CallError> for RegistryError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Transient { detail, retry_after } => Self::Transient { detail, retry_after },
            // A token may be renewed while a registration waits; its deadline bounds the waiting.
            CallError::Refused {
                status: 401 | 403, ..
            } => Self::transient(error.to_string()),
            CallError::Refused { .. } => Self::Permanent(error.to_string()),
        }
    }
}
