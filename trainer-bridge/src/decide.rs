//! What happens to a job next: pure, no clock, no I/O. The row's own `now` is the database's clock.
//!
//! ```text
//! accepted ─► submitting ─► running ─► succeeded ───────────────┐
//!                 ▲            │  └──► failed, cancelled ───────┼─► reported
//!                 └─new attempt┘  └──► timed_out ───────────────┘
//! ```
//!
//! The token of an attempt is committed with `submitting`, before the call: whatever is lost afterwards, asking again
//! under the same token finds the same run. Nothing waits for ever: the deadline ends every job.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use schemas::events::TrainingFailure;

use crate::backend::local::LoadError;
use crate::backend::{BackendError, Observation, Pace};
use crate::job::{Candidate, Failure, Job, Plan, RunRef};
use crate::registry::RegistryError;

/// How patient the bridge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Attempts of one job, 1 or more; only failures of the platform get another one.
    pub attempts_max: u32,
    /// How long after the deadline a remote run may resist being cancelled.
    pub cancel_grace: Duration,
    /// Shortest threshold and holdout span on a short history.
    pub slice_min: TimeDelta,
    /// Pauses after transient errors.
    pub retry: Retry,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Stay and look again.
    Wait {
        /// After this long.
        after: Duration,
        /// The transient error that made us wait, if one did.
        error: Option<String>,
    },
    /// Stop the run, then ask [`aborted`].
    Abort,
    /// Go to another state.
    Move(Move),
}

/// A transition.
#[derive(Debug, Clone, PartialEq)]
pub enum Move {
    /// To `submitting`, with the token of this attempt.
    Submit {
        /// From 1.
        attempt: u32,
        /// The spans, fitted to the history there is; the same for every attempt.
        plan: Plan,
    },
    /// To `running`.
    Run(RunRef),
    /// To `succeeded`.
    Succeed(Box<Candidate>),
    /// To `failed`.
    Fail(Failure),
    /// To `cancelled`.
    Cancel(Failure),
    /// To `timed_out`.
    TimeOut(Failure),
}

/// Pauses after transient errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The first one; it doubles with each further error.
    pub first: Duration,
    /// The longest one.
    pub longest: Duration,
}

/// An accepted job begins; `oldest` is when the model's first row happened.
#[must_use]
pub fn begin(job: &Job, oldest: Result<Option<DateTime<Utc>>, LoadError>, policy: &Policy) -> Step {
    if job.is_overdue() {
        return Step::Move(Move::TimeOut(timed_out(
            "the deadline passed before the run was submitted",
        )));
    }
    let insufficient = |detail| {
        Step::Move(Move::Fail(Failure {
            kind: TrainingFailure::DataInsufficient,
            detail,
        }))
    };
    match oldest {
        Ok(Some(oldest)) => match job.order.plan.within(oldest, policy.slice_min) {
            Some(plan) => Step::Move(Move::Submit { attempt: 1, plan }),
            None => insufficient(format!(
                "the history begins at {oldest:?} and labels are ripe until {:?}: nothing is left to train on",
                job.order.plan.holdout.end()
            )),
        },
        Ok(None) => insufficient("there are no rows".to_owned()),
        Err(LoadError::Transient(detail)) => wait_after_error(job, detail, None, policy.retry),
        Err(LoadError::Permanent { kind, detail }) => Step::Move(Move::Fail(Failure { kind, detail })),
    }
}

/// The backend was asked to start the run.
#[must_use]
pub fn submitted(job: &Job, result: Result<RunRef, BackendError>, policy: &Policy) -> Step {
    // Once it was asked for, the run may exist though no answer was written down: then a refused token proves nothing.
    let result = if job.asks > 1 {
        result.map_err(BackendError::patient)
    } else {
        result
    };
    match result {
        Ok(run) => Step::Move(Move::Run(run)),
        Err(error @ (BackendError::Permanent(_) | BackendError::Unauthorised(_))) => refused(&error),
        // The run may exist although its answer was lost. Asking again within the grace finds it by its token; then it
        // is stopped like any other.
        Err(error) if job.is_overdue() => aborted(job, Err(error), policy),
        Err(BackendError::Transient { detail, retry_after }) => {
            wait_after_error(job, detail, retry_after, policy.retry)
        }
    }
}

fn refused(error: &BackendError) -> Step {
    Step::Move(Move::Fail(Failure {
        kind: TrainingFailure::Refused,
        detail: error.to_string(),
    }))
}

/// The backend was asked how the run stands.
#[must_use]
pub fn observed(job: &Job, result: Result<Observation, BackendError>, policy: &Policy, pace: Pace) -> Step {
    match result.map_err(BackendError::patient) {
        Ok(Observation::Finished(candidate)) => Step::Move(Move::Succeed(candidate)),
        Ok(Observation::Cancelled { detail }) => Step::Move(Move::Cancel(Failure {
            kind: TrainingFailure::Cancelled,
            detail,
        })),
        Ok(Observation::TimedOut { detail }) => Step::Move(Move::TimeOut(timed_out(detail))),
        Ok(Observation::Failed { retryable: true, .. })
            if job.attempt < policy.attempts_max && !job.is_overdue() =>
        {
            Step::Move(Move::Submit {
                attempt: job.attempt + 1,
                plan: job.order.plan,
            })
        }
        Ok(Observation::Failed { kind, detail, .. }) => Step::Move(Move::Fail(Failure { kind, detail })),
        Err(error @ (BackendError::Permanent(_) | BackendError::Unauthorised(_))) => refused(&error),
        // A run that ended in time was taken above; one that has not is stopped now.
        Ok(Observation::InProgress { .. }) | Err(BackendError::Transient { .. }) if job.is_overdue() => {
            Step::Abort
        }
        Ok(Observation::InProgress { .. }) => Step::Wait {
            after: poll_delay(job, pace),
            error: None,
        },
        Err(BackendError::Transient { detail, retry_after }) => {
            wait_after_error(job, detail, retry_after, policy.retry)
        }
    }
}

/// The run was asked to stop because the deadline had passed.
#[must_use]
pub fn aborted(job: &Job, result: Result<(), BackendError>, policy: &Policy) -> Step {
    match result.map_err(BackendError::patient) {
        Ok(()) => Step::Move(Move::TimeOut(timed_out(
            "the deadline passed; the run was cancelled",
        ))),
        Err(BackendError::Transient { detail, retry_after }) => {
            let grace = TimeDelta::from_std(policy.cancel_grace).unwrap_or(TimeDelta::MAX);
            let patience = job.deadline.checked_add_signed(grace);
            if patience.is_some_and(|until| job.now < until) {
                return wait_after_error(job, detail, retry_after, policy.retry);
            }
            give_up(&detail)
        }
        Err(error @ (BackendError::Permanent(_) | BackendError::Unauthorised(_))) => {
            give_up(&error.to_string())
        }
    }
}

/// A candidate could not be registered.
#[must_use]
pub fn not_registered(job: &Job, error: RegistryError, policy: &Policy) -> Step {
    let fail = |detail: String| {
        Step::Move(Move::Fail(Failure {
            kind: TrainingFailure::RunFailed,
            detail,
        }))
    };
    match error {
        RegistryError::Permanent(detail) => fail(format!(
            "the model was trained but cannot be registered: {detail}"
        )),
        RegistryError::Transient { detail, .. } if job.is_overdue() => fail(format!(
            "the model was trained but could not be registered in time: {detail}"
        )),
        RegistryError::Transient { detail, retry_after } => {
            wait_after_error(job, detail, retry_after, policy.retry)
        }
    }
}

fn give_up(detail: &str) -> Step {
    let detail =
        format!("the deadline passed and the run could not be cancelled, it may still be running: {detail}");
    Step::Move(Move::TimeOut(timed_out(detail)))
}

fn timed_out(detail: impl Into<String>) -> Failure {
    Failure {
        kind: TrainingFailure::TimedOut,
        detail: detail.into(),
    }
}

/// Looks become rarer while a run goes on: every tenth of its age, within the backend's bounds; and one look comes
/// right after the deadline.
fn poll_delay(job: &Job, pace: Pace) -> Duration {
    let age = (job.now - job.since).to_std().unwrap_or(Duration::ZERO);
    let delay = (age / 10).clamp(pace.poll_first, pace.poll_longest.max(pace.poll_first));
    let left = (job.deadline - job.now).to_std().unwrap_or(Duration::ZERO);
    delay.min(left.max(Duration::from_millis(1)))
}

/// Never sleeps past the deadline, however long a server asks us to wait.
fn wait_after_error(job: &Job, detail: String, retry_after: Option<Duration>, retry: Retry) -> Step {
    let delay = retry_delay(retry, job.retries, retry_after);
    let left = (job.deadline - job.now).to_std().ok();
    let after = left.map_or(delay.min(retry.longest), |left| delay.min(left.max(retry.first)));
    Step::Wait {
        after,
        error: Some(detail),
    }
}

/// The pause after `retries` transient errors in a row: what the server asks for, else doubling from the first.
#[must_use]
pub fn retry_delay(retry: Retry, retries: u32, retry_after: Option<Duration>) -> Duration {
    let own = retry
        .first
        .saturating_mul(2_u32.saturating_pow(retries.min(16)))
        .min(retry.longest);
    retry_after.map_or(own, |asked| asked.max(retry.first))
}

#[cfg(test)]
mod tests;
