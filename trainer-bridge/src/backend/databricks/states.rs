//! What a Databricks run is doing, in the old and the new vocabulary, both open sets.
//!
//! `state` (life cycle and result) is what every workspace answers; `status` (state and termination details) is
//! newer and tells whose fault a failure was. A value that this release does not know never breaks anything: an
//! unknown state goes on being polled until the deadline, an unknown ending is a failure.

use serde::Deserialize;

macro_rules! open_set {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
        #[serde(from = "String")]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant,)*
            /// A value that this release does not know.
            Unknown(String),
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => Self::$variant,)*
                    _ => Self::Unknown(word.chars().take(80).collect()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self {
                    $(Self::$variant => $word,)*
                    Self::Unknown(word) => word,
                })
            }
        }
    };
}

open_set! {
    /// `state.life_cycle_state`.
    LifeCycle {
        Queued = "QUEUED", Pending = "PENDING", Running = "RUNNING", Terminating = "TERMINATING",
        Terminated = "TERMINATED", Skipped = "SKIPPED", InternalError = "INTERNAL_ERROR", Blocked = "BLOCKED",
        WaitingForRetry = "WAITING_FOR_RETRY",
    }
}
open_set! {
    /// `state.result_state`.
    ResultState {
        Success = "SUCCESS", Failed = "FAILED", TimedOut = "TIMEDOUT", Canceled = "CANCELED",
        MaximumConcurrentRunsReached = "MAXIMUM_CONCURRENT_RUNS_REACHED", Excluded = "EXCLUDED",
        SuccessWithFailures = "SUCCESS_WITH_FAILURES", UpstreamFailed = "UPSTREAM_FAILED",
        UpstreamCanceled = "UPSTREAM_CANCELED", Disabled = "DISABLED",
    }
}
open_set! {
    /// `status.state`.
    StatusState {
        Blocked = "BLOCKED", Pending = "PENDING", Queued = "QUEUED", Running = "RUNNING",
        Terminating = "TERMINATING", Terminated = "TERMINATED", Waiting = "WAITING",
    }
}
open_set! {
    /// `status.termination_details.type`: whose fault it was.
    TerminationType {
        Success = "SUCCESS", ClientError = "CLIENT_ERROR", CloudFailure = "CLOUD_FAILURE",
        InternalError = "INTERNAL_ERROR",
    }
}

/// A run as `runs/get` answers it; what is not needed is ignored.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Run {
    /// The run.
    pub run_id: u64,
    /// Old vocabulary.
    pub state: Option<RunState>,
    /// New vocabulary.
    pub status: Option<RunStatus>,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub start_time: i64,
    /// Milliseconds since 1970; 0 while it runs.
    #[serde(default)]
    pub end_time: i64,
    /// A page that shows the run.
    pub run_page_url: Option<String>,
    /// Its tasks; the error of a failed notebook is asked for by task.
    #[serde(default)]
    pub tasks: Vec<TaskRun>,
}

impl Run {
    /// How long it took, seconds; 0 until it has ended.
    pub fn seconds(&self) -> f64 {
        (self.end_time - self.start_time).max(0) as f64 / 1_000.0
    }
}

/// A task of a run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TaskRun {
    /// The task's own run, for `get-output`.
    pub run_id: u64,
    /// Its key.
    #[serde(default)]
    pub task_key: String,
}

/// Old vocabulary.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RunState {
    /// Where it is.
    pub life_cycle_state: LifeCycle,
    /// How it ended.
    pub result_state: Option<ResultState>,
    /// What people are told.
    #[serde(default)]
    pub state_message: String,
}

/// New vocabulary.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RunStatus {
    /// Where it is.
    pub state: StatusState,
    /// How it ended.
    pub termination_details: Option<TerminationDetails>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TerminationDetails {
    /// E.g. `SUCCESS`, `RUN_EXECUTION_ERROR`; an open set that grows with every release of the platform.
    #[serde(default)]
    pub code: String,
    /// Whose fault it was.
    #[serde(rename = "type")]
    pub kind: Option<TerminationType>,
    /// What people are told.
    #[serde(default)]
    pub message: String,
}

/// What a run means for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has not ended.
    InProgress {
        /// The state, in the platform's words.
        state: String,
    },
    /// It ended well, wholly.
    Succeeded,
    /// Someone stopped it.
    Cancelled {
        /// In the platform's words.
        detail: String,
    },
    /// The platform's own time limit stopped it.
    TimedOut {
        /// In the platform's words.
        detail: String,
    },
    /// It ended otherwise.
    Failed {
        /// The platform's own fault: another attempt may succeed.
        retryable: bool,
        /// In the platform's words.
        detail: String,
    },
}

/// Reads a run: the new vocabulary when it is there, else the old.
pub fn verdict(run: &Run) -> Verdict {
    match (&run.status, &run.state) {
        (Some(status), _) => by_status(status, run.end_time),
        (None, Some(state)) => by_state(state, run.end_time),
        (None, None) => {
            // No vocabulary that we know; an end without a word is no success.
            let failed = Verdict::Failed {
                retryable: false,
                detail: "the run ended without any state".to_owned(),
            };
            if run.end_time > 0 {
                failed
            } else {
                Verdict::InProgress {
                    state: "no state".to_owned(),
                }
            }
        }
    }
}

fn by_status(status: &RunStatus, end_time: i64) -> Verdict {
    match &status.state {
        StatusState::Terminated => status.termination_details.as_ref().map_or_else(
            || Verdict::Failed {
                retryable: false,
                detail: "TERMINATED without details".to_owned(),
            },
            by_termination,
        ),
        StatusState::Unknown(word) if end_time > 0 => Verdict::Failed {
            retryable: false,
            detail: format!("ended in the unknown state `{word}`"),
        },
        StatusState::Blocked
        | StatusState::Pending
        | StatusState::Queued
        | StatusState::Running
        | StatusState::Terminating
        | StatusState::Waiting
        | StatusState::Unknown(_) => Verdict::InProgress {
            state: status.state.to_string(),
        },
    }
}

fn by_termination(details: &TerminationDetails) -> Verdict {
    let detail = said(&details.code, &details.message);
    match (details.code.as_str(), &details.kind) {
        // SUCCESS_WITH_FAILURES is not success for a model, and an unknown code is none either.
        ("SUCCESS", Some(TerminationType::Success) | None) => Verdict::Succeeded,
        ("USER_CANCELED" | "CANCELED", _) => Verdict::Cancelled { detail },
        ("RUN_EXECUTION_TIMED_OUT" | "TIMED_OUT", _) => Verdict::TimedOut { detail },
        (_, kind) => {
            let platform = matches!(
                kind,
                Some(TerminationType::CloudFailure | TerminationType::InternalError)
            );
            Verdict::Failed {
                retryable: platform,
                detail,
            }
        }
    }
}

fn by_state(state: &RunState, end_time: i64) -> Verdict {
    match &state.life_cycle_state {
        LifeCycle::Terminated => {
            let result = state.result_state.as_ref();
            let word = result.map_or_else(|| "TERMINATED without a result".to_owned(), ToString::to_string);
            let detail = said(&word, &state.state_message);
            match result {
                Some(ResultState::Success) => Verdict::Succeeded,
                Some(ResultState::Canceled | ResultState::UpstreamCanceled) => Verdict::Cancelled { detail },
                Some(ResultState::TimedOut) => Verdict::TimedOut { detail },
                Some(ResultState::MaximumConcurrentRunsReached) => Verdict::Failed {
                    retryable: true,
                    detail,
                },
                Some(
                    ResultState::Failed
                    | ResultState::Excluded
                    | ResultState::SuccessWithFailures
                    | ResultState::UpstreamFailed
                    | ResultState::Disabled
                    | ResultState::Unknown(_),
                )
                | None => Verdict::Failed {
                    retryable: false,
                    detail,
                },
            }
        }
        LifeCycle::Skipped => {
            // Another run of the job was active: the platform did not try.
            Verdict::Failed {
                retryable: true,
                detail: said("SKIPPED", &state.state_message),
            }
        }
        LifeCycle::InternalError => Verdict::Failed {
            retryable: true,
            detail: said("INTERNAL_ERROR", &state.state_message),
        },
        LifeCycle::Unknown(word) if end_time > 0 => Verdict::Failed {
            retryable: false,
            detail: format!("ended in the unknown state `{word}`"),
        },
        LifeCycle::Queued
        | LifeCycle::Pending
        | LifeCycle::Running
        | LifeCycle::Terminating
        | LifeCycle::Blocked
        | LifeCycle::WaitingForRetry
        | LifeCycle::Unknown(_) => Verdict::InProgress {
            state: state.life_cycle_state.to_string(),
        },
    }
}

fn said(word: &str, message: &str) -> String {
    let message: String = message.chars().take(300).collect();
    if message.is_empty() {
        word.to_owned()
    } else {
        format!("{word}: {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Verdict {
        verdict(&serde_json::from_str(json).expect("every answer of the platform can be read"))
    }

    #[test]
    fn states_mean_what_the_platform_documents_and_unknown_ones_never_break() {
        let running = |word: &str| Verdict::InProgress {
            state: word.to_owned(),
        };
        let failed = |retryable, detail: &str| Verdict::Failed {
            retryable,
            detail: detail.to_owned(),
        };
        let cases = [
            (
                r#"{"run_id":1,"state":{"life_cycle_state":"PENDING"}}"#,
                running("PENDING"),
            ),
            (
                r#"{"run_id":1,"state":{"life_cycle_state":"WAITING_FOR_RETRY"}}"#,
                running("WAITING_FOR_RETRY"),
            ),
            (
                r#"{"run_id":1,"state":{"life_cycle_state":"TERMINATED","result_state":"SUCCESS"}}"#,
                Verdict::Succeeded,
            ),
            (
                r#"{"run_id":1,"state":{"life_cycle_state":"TERMINATED","result_state":"SUCCESS_WITH_FAILURES"}}"#,
                failed(false, "SUCCESS_WITH_FAILURES"),
            ),
            (
                r#"{"run_id":1,"state":{"life_cycle_state":"TERMINATED","result_state":"CANCELED","state_message":"by x"}}"#,
                Verdict::Cancelled {
                    detail: "CANCELED: by x".to_owned(),
                },
            ),
            (
                r#"{"run_id":1,"state":{"life_cycle_state":"TERMINATED","result_state":"TIMEDOUT"}}"#,
                Verdict::TimedOut {
                    detail: "TIMEDOUT".to_owned(),
                },
            ),
            (
                r#"{"run_id":1,"state":{"life_cycle_state":"INTERNAL_ERROR"}}"#,
                failed(true, "INTERNAL_ERROR"),
            ),
            (
                r#"{"run_id":1,"state":{"life_cycle_state":"SKIPPED"}}"#,
                failed(true, "SKIPPED"),
            ),
            (
                r#"{"run_id":1,"state":{"life_cycle_state":"TERMINATED","result_state":"NEW_RESULT"}}"#,
                failed(false, "NEW_RESULT"),
            ),
            (
                r#"{"run_id":1,"state":{"life_cycle_state":"TERMINATED"}}"#,
                failed(false, "TERMINATED without a result"),
            ),
            (
                r#"{"run_id":1,"state":{"life_cycle_state":"DREAMING"}}"#,
                running("DREAMING"),
            ),
            (
                r#"{"run_id":1,"state":{"life_cycle_state":"DREAMING"},"end_time":5}"#,
                failed(false, "ended in the unknown state `DREAMING`"),
            ),
            (r#"{"run_id":1}"#, running("no state")),
            (
                r#"{"run_id":1,"end_time":5}"#,
                failed(false, "the run ended without any state"),
            ),
            // The new vocabulary wins over the old.
            (
                r#"{"run_id":1,"status":{"state":"RUNNING"},"state":{"life_cycle_state":"TERMINATED"}}"#,
                running("RUNNING"),
            ),
            (
                r#"{"run_id":1,"status":{"state":"TERMINATED","termination_details":{"code":"SUCCESS","type":"SUCCESS"}}}"#,
                Verdict::Succeeded,
            ),
            (
                r#"{"run_id":1,"status":{"state":"TERMINATED","termination_details":{"code":"SUCCESS_WITH_FAILURES","type":"SUCCESS"}}}"#,
                failed(false, "SUCCESS_WITH_FAILURES"),
            ),
            (
                r#"{"run_id":1,"status":{"state":"TERMINATED","termination_details":{"code":"CLUSTER_ERROR","type":"CLOUD_FAILURE","message":"gone"}}}"#,
                failed(true, "CLUSTER_ERROR: gone"),
            ),
            (
                r#"{"run_id":1,"status":{"state":"TERMINATED","termination_details":{"code":"RUN_EXECUTION_ERROR","type":"CLIENT_ERROR"}}}"#,
                failed(false, "RUN_EXECUTION_ERROR"),
            ),
            (
                r#"{"run_id":1,"status":{"state":"TERMINATED","termination_details":{"code":"BRAND_NEW","type":"NEW_TYPE"}}}"#,
                failed(false, "BRAND_NEW"),
            ),
            (
                r#"{"run_id":1,"status":{"state":"TERMINATED","termination_details":{"code":"USER_CANCELED","type":"SUCCESS"}}}"#,
                Verdict::Cancelled {
                    detail: "USER_CANCELED".to_owned(),
                },
            ),
            (
                r#"{"run_id":1,"status":{"state":"TERMINATED"}}"#,
                failed(false, "TERMINATED without details"),
            ),
            (
                r#"{"run_id":1,"status":{"state":"HIBERNATING"}}"#,
                running("HIBERNATING"),
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(read(json), expected, "{json}");
        }
    }
}
