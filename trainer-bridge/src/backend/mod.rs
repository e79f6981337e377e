//! Where trainings run: one trait, two backends.
//!
//! A backend is asked to start a run under an idempotency token, then to say how it stands until it has ended.
//! Every call may be repeated after a crash or a lost answer, by this process or another one.

pub mod databricks;
pub mod local;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use chassis::rest::CallError;
use chrono::{DateTime, Utc};
use schemas::events::TrainingFailure;

use crate::job::{BackendKind, Candidate, Order, RunRef};

/// A call's answer, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send + 'a>>;

/// Something that trains models.
pub trait Backend: Send + Sync + std::fmt::Debug {
    /// Which one.
    fn kind(&self) -> BackendKind;

    /// How often to look.
    fn pace(&self) -> Pace;

    /// Starts the run of this token, or finds the one that was started before. `time_left` until the deadline.
    fn submit<'a>(&'a self, order: &'a Order, token: &'a str, time_left: Duration) -> Answer<'a, RunRef>;

    /// How the run stands `now`, by the database's clock; a finished one is read completely.
    fn observe<'a>(
        &'a self,
        order: &'a Order,
        token: &'a str,
        run: &'a RunRef,
        now: DateTime<Utc>,
    ) -> Answer<'a, Observation>;

    /// Asks for the run to be stopped; one that has ended is fine.
    fn cancel<'a>(&'a self, run: &'a RunRef) -> Answer<'a, ()>;
}

/// How often a backend is looked at, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Pause after the first look.
    pub poll_first: Duration,
    /// Longest pause.
    pub poll_longest: Duration,
    /// The process that began to observe goes on alone until its lease ends: the run lives in it.
    pub sticky: bool,
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// Not ended.
    InProgress {
        /// In the backend's words.
        detail: String,
    },
    /// Ended with a candidate.
    Finished(Box<Candidate>),
    /// Someone stopped it.
    Cancelled {
        /// In the backend's words.
        detail: String,
    },
    /// The backend's own time limit stopped it.
    TimedOut {
        /// In the backend's words.
        detail: String,
    },
    /// Ended without a candidate.
    Failed {
        /// Another attempt may succeed.
        retryable: bool,
        /// What kind.
        kind: TrainingFailure,
        /// One sentence.
        detail: String,
    },
}

/// Why a backend gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// It may answer later.
    #[error("{detail}")]
    Transient {
        /// What happened.
        detail: String,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// It takes our token for wrong, or for too weak. Somebody may renew it.
    #[error("{0}; check DATABRICKS_TOKEN and its rights")]
    Unauthorised(String),
    /// Asking again cannot help.
    #[error("{0}")]
    Permanent(String),
}

impl BackendError {
    /// What a run that exists, or may exist, waits for.
    #[must_use]
    pub fn patient(self) -> Self {
        match self {
            Self::Unauthorised(_) => Self::transient(self.to_string()),
            other => other,
        }
    }

    /// A transient error without a wish of the server's.
    pub fn transient(detail: impl Into<String>) -> Self {
        Self::Transient {
            detail: detail.into(),
            retry_after: None,
        }
    }
}

impl From<CallError> for BackendError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Transient { detail, retry_after } => Self::Transient { detail, retry_after },
            CallError::Refused {
                status: 401 | 403, ..
            } => Self::Unauthorised(error.to_string()),
            CallError::Refused { .. } => Self::Permanent(error.to_string()),
        }
    }
}
