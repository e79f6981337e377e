//! One run and the plan it follows.

use std::collections::VecDeque;

use serde_json::Value;

use super::RunRecord;

/// How a run goes: its states in order, each for a number of polls. The last one stays.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPlan {
    /// Never empty.
    steps: Vec<Step>,
    dialect: Dialect,
    output: String,
    error: Option<String>,
}

/// A state and how many calls of `runs/get` see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The state.
    pub state: RunState,
    /// At least 1.
    pub polls: u32,
}

/// In which of its two forms the workspace tells a run's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `state` and `status`, as today.
    Both,
    /// Only `state`, as older workspaces do.
    OldOnly,
    /// Only `status`.
    NewOnly,
}

/// Where a run stands. Names as in `state.life_cycle_state`.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// Waits for an upstream task.
    Blocked,
    /// Is being set up.
    Pending,
    /// Waits for a free slot.
    Queued,
    /// Runs.
    Running,
    /// Ends.
    Terminating,
    /// Has failed and will be tried again.
    WaitingForRetry,
    /// Has ended.
    Terminated(Outcome),
    /// Was not started, because another run of the job was active. Final.
    Skipped,
    /// The platform failed, with this message. Final.
    InternalError(String),
    /// A state that clients do not know yet, called this in both forms.
    Unheard(String),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// `state.result_state`: `SUCCESS`, `FAILED`, `TIMEDOUT`, `CANCELED`, `SUCCESS_WITH_FAILURES`, …
    pub result_state: String,
    /// `status.termination_details.code`: `SUCCESS`, `RUN_EXECUTION_ERROR`, `CLOUD_FAILURE`, …
    pub code: String,
    /// `status.termination_details.type`: `SUCCESS`, `CLIENT_ERROR`, `CLOUD_FAILURE` or `INTERNAL_ERROR`.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
}

impl Outcome {
    /// `SUCCESS` in every field.
    pub fn success() -> Self {
        Self::new("SUCCESS", "SUCCESS", "SUCCESS", "")
    }

    /// Of these words, in the order of the fields.
    pub fn new(result_state: &str, code: &str, kind: &str, message: &str) -> Self {
        let [result_state, code, kind, message] = [result_state, code, kind, message].map(str::to_owned);
        Self {
            result_state,
            code,
            kind,
            message,
        }
    }
}

impl RunState {
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Terminated(_) | Self::Skipped | Self::InternalError(_) => true,
            Self::Blocked
            | Self::Pending
            | Self::Queued
            | Self::Running
            | Self::Terminating
            | Self::WaitingForRetry
            | Self::Unheard(_) => false,
        }
    }
}

impl RunPlan {
    /// Pending, running, and success at the third poll. The notebook hands back `output`.
    pub fn succeeds(output: impl Into<String>) -> Self {
        let mut plan = Self::through(
            [RunState::Pending, RunState::Running],
            RunState::Terminated(Outcome::success()),
        );
        plan.output = output.into();
        plan
    }

    /// Pending, running, and this end at the third poll, with its message as the error of the task.
    pub fn fails(outcome: Outcome) -> Self {
        let error = outcome.message.clone();
        let mut plan = Self::through(
            [RunState::Pending, RunState::Running],
            RunState::Terminated(outcome),
        );
        plan.error = Some(error);
        plan
    }

    /// In this state for ever, until [`set_state`](super::Databricks::set_state) or a cancel.
    pub fn stays(state: RunState) -> Self {
        Self::through([], state)
    }

    /// Each state for one poll, and then `last`.
    pub fn through(states: impl IntoIterator<Item = RunState>, last: RunState) -> Self {
        let steps = states
            .into_iter()
            .chain([last])
            .map(|state| Step { state, polls: 1 })
            .collect();
        Self {
            steps,
            dialect: Dialect::Both,
            output: String::new(),
            error: None,
        }
    }

    /// In this form only.
    #[must_use]
    pub fn told_in(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// What the notebook hands back.
    #[must_use]
    pub fn with_output(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: i64,
    pub(super) task_ids: Vec<i64>,
    pub(super) job_id: Option<i64>,
    pub(super) token: Option<String>,
    pub(super) request: Value,
    pub(super) started_ms: u64,
    pub(super) polls: u32,
    pub(super) cancelled: bool,
    pub(super) dialect: Dialect,
    pub(super) output: String,
    pub(super) error: Option<String>,
    steps: VecDeque<Step>,
    state: RunState,
}

impl Run {
    pub(super) fn new(
        ids: (i64, Vec<i64>),
        job_id: Option<i64>,
        request: Value,
        now_ms: u64,
        plan: RunPlan,
    ) -> Self {
        let (id, task_ids) = ids;
        let mut run = Self {
            id,
            task_ids,
            job_id,
            token: request["idempotency_token"]
                .as_str()
                .filter(|token| !token.is_empty())
                .map(str::to_owned),
            request,
            started_ms: now_ms,
            polls: 0,
            cancelled: false,
            dialect: plan.dialect,
            output: plan.output,
            error: plan.error,
            steps: VecDeque::new(),
            state: RunState::Pending,
        };
        run.go_on_with(plan.steps);
        run
    }

    /// The state that this poll sees.
    pub(super) fn poll(&mut self) -> RunState {
        self.polls += 1;
        if let Some(step) = self.steps.front_mut() {
            self.state = step.state.clone();
            step.polls = step.polls.saturating_sub(1);
            if step.polls == 0 {
                self.steps.pop_front();
            }
        }
        self.state.clone()
    }

    /// Where it stands, without counting as a poll.
    pub(super) fn state(&self) -> &RunState {
        &self.state
    }

    pub(super) fn go_on_with(&mut self, steps: impl IntoIterator<Item = Step>) {
        self.steps = steps.into_iter().collect();
        if let Some(first) = self.steps.front() {
            self.state = first.state.clone();
        }
    }

    /// Asynchronous, as there: it ends some time later, unless it has ended already.
    pub(super) fn cancel(&mut self) {
        if !self.state.is_final() {
            self.cancelled = true;
            let outcome = Outcome::new("CANCELED", "USER_CANCELED", "CLIENT_ERROR", "Run cancelled.");
            let states = [RunState::Terminating, RunState::Terminated(outcome)];
            self.go_on_with(states.map(|state| Step { state, polls: 1 }));
        }
    }

    pub(super) fn record(&self) -> RunRecord {
        RunRecord {
            run_id: self.id,
            task_run_id: self.task_ids[0],
            job_id: self.job_id,
            token: self.token.clone(),
            request: self.request.clone(),
            polls: self.polls,
            cancelled: self.cancelled,
            state: self.state.clone(),
        }
    }
}
