//! A training job: what it is asked for, where it stands, what it gives. Values only.

use chrono::{DateTime, TimeDelta, Utc};
use schemas::events::{Artifact, ReportedMetric, TrainingFailure};
use schemas::{DecisionId, EventId, JobId, ModelName, ModelVersion, Share, TraceContext, Window};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Where a job stands. `Reported` is the end; every other state is worked on until it gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobState {
    /// Asked for; nothing was sent.
    Accepted,
    /// The token is committed; the call may or may not have been made.
    Submitting,
    /// The backend knows the run.
    Running,
    /// A candidate exists; it is not registered and announced yet.
    Succeeded,
    /// No candidate will come; that is not announced yet.
    Failed,
    /// Someone stopped the run; that is not announced yet.
    Cancelled,
    /// The deadline passed; that is not announced yet.
    TimedOut,
    /// Announced. Nothing more happens.
    Reported,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Submitting,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
        Self::Reported,
    ];

    /// The word in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Submitting => "submitting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Reported => "reported",
        }
    }

    /// The state of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// Where a training runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// In this process.
    Local,
    /// On Databricks.
    Databricks,
}

impl BackendKind {
    /// The word in settings, tables and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Databricks => "databricks",
        }
    }

    /// The backend of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Local, Self::Databricks]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// The spans of a training, one after the other and none of them overlapping. Fixed with the token, before the first call, so
/// that a training that is run again sees the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Rows to fit on.
    pub training: Window,
    /// Rows to choose candidate and operating threshold on.
    pub threshold: Window,
    /// Rows that the training must not see: the validator's.
    pub holdout: Window,
    /// Seed of everything random.
    pub seed: u64,
}

/// How long the spans are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitLengths {
    /// Of the training span.
    pub training: TimeDelta,
    /// Of the threshold span.
    pub threshold: TimeDelta,
    /// Of the holdout span.
    pub holdout: TimeDelta,
}

impl Plan {
    /// The spans that end when labels ripen: holdout last, threshold before it, training before that. Nothing is later
    /// than `as_of` minus the label delay, so that every row's label could be known. `None` when a length is not positive.
    pub fn new(
        as_of: DateTime<Utc>,
        label_delay: TimeDelta,
        lengths: SplitLengths,
        seed: u64,
    ) -> Option<Self> {
        let ripe = as_of - label_delay;
        let holdout = Window::ending_at(ripe, lengths.holdout).ok()?;
        let threshold = Window::ending_at(holdout.start(), lengths.threshold).ok()?;
        let training = Window::ending_at(threshold.start(), lengths.training).ok()?;
        Some(Self {
            training,
            threshold,
            holdout,
            seed,
        })
    }
}

impl Plan {
    /// The same end on a history that begins later than the plan does: threshold and holdout shrink in proportion, to
    /// whole days and not below `slice_min`; training gets the rest. `None` when nothing is left for it.
    pub fn within(self, oldest: DateTime<Utc>, slice_min: TimeDelta) -> Option<Self> {
        if oldest <= self.training.start() {
            return Some(self);
        }
        let history = self.holdout.end() - oldest;
        let wanted = self.holdout.end() - self.training.start();
        let share = history.num_seconds() as f64 / wanted.num_seconds().max(1) as f64;
        let shrunk = |span: TimeDelta| {
            let days = (span.num_seconds() as f64 * share / 86_400.0).floor() as i64;
            TimeDelta::days(days).max(slice_min).min(span)
        };
        let lengths = SplitLengths {
            training: history - shrunk(self.threshold.length()) - shrunk(self.holdout.length()),
            threshold: shrunk(self.threshold.length()),
            holdout: shrunk(self.holdout.length()),
        };
        Self::new(self.holdout.end(), TimeDelta::zero(), lengths, self.seed)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The job.
    pub job_id: JobId,
    /// The model.
    pub model: ModelName,
    /// The decision it serves.
    pub decision_id: DecisionId,
    /// The decision's instant.
    pub as_of: DateTime<Utc>,
    /// Which rows.
    pub plan: Plan,
}

impl Order {
    /// The version that a candidate of this job gets: the instant for people, the job to be unique.
    ///
    /// # Panics
    /// Never: the text is short and plain.
    pub fn version(&self) -> ModelVersion {
        let job = self.job_id.uuid().simple().to_string();
        let text = format!("{}-{}", self.as_of.format("%Y%m%d-%H%M"), &job[..12]);
        ModelVersion::new(text)
            .unwrap_or_else(|error| unreachable!("a short plain text is a version: {error}"))
    }
}

/// The idempotency token of an attempt: 64 hexadecimal digits. A business retry is a new attempt and so a new
/// token; a call that is merely repeated keeps its token.
pub fn token_of(job_id: JobId, attempt: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(job_id.uuid().as_bytes());
    hash.update(attempt.to_be_bytes());
    hex::encode(hash.finalize())
}

/// A run that a backend knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRef {
    /// The backend's own id.
    pub run_id: String,
    /// A page that shows it.
    pub url: Option<String>,
}

/// What a training gave: everything `model.trained` says that the order does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// E.g. `random_forest`.
    pub algorithm: String,
    /// Where the bytes are, and which they must be.
    pub artifact: Artifact,
    /// Rows fitted on.
    pub training_rows: u64,
    /// Frauds among them.
    pub training_frauds: u64,
    /// A row counts as predicted fraud when its score is at least this.
    pub operating_threshold: Share,
    /// Seed of everything random.
    pub seed: u64,
    /// How long it took.
    pub stages: Stages,
    /// What the trainer says of the model.
    pub reported: Vec<ReportedMetric>,
    /// Hyper-parameters and the like, for people.
    pub notes: std::collections::BTreeMap<String, String>,
    /// The tracking run that the backend made, if it made one.
    pub mlflow_run_id: Option<String>,
}

/// How long the stages of a training took, seconds of wall time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// Loading the rows; none when the backend does not tell.
    pub load_seconds: Option<f64>,
    /// Fitting and choosing.
    pub train_seconds: f64,
}

/// What a job's events follow from.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The event that caused it.
    pub event_id: EventId,
    /// The event that began the loop.
    pub correlation_id: EventId,
    /// The trace to go on with, also after a restart.
    pub trace: TraceContext,
}

/// A job as it is in the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What is asked for.
    pub order: Order,
    /// Where it runs.
    pub backend: BackendKind,
    /// Where it stands.
    pub state: JobState,
    /// Guards every update together with the state.
    pub revision: i64,
    /// Attempt, 0 before the first.
    pub attempt: u32,
    /// The attempt's token.
    pub token: Option<String>,
    /// The attempt's run.
    pub run: Option<RunRef>,
    /// Why there is no candidate.
    pub failure: Option<Failure>,
    /// What came out.
    pub candidate: Option<Candidate>,
    /// Ends after this, whatever happens.
    pub deadline: DateTime<Utc>,
    /// Transient errors in a row.
    pub retries: u32,
    /// How often this attempt's run was asked for, this time included; whoever died before it could write down the answer
    /// counts too.
    pub asks: u32,
    /// Order of the decisions of this model.
    pub fence: i64,
    /// What its events follow from.
    pub origin: Origin,
    /// When it came into this state, by the database's clock.
    pub since: DateTime<Utc>,
    /// The database's clock when the row was read.
    pub now: DateTime<Utc>,
}

impl Job {
    /// Whether the deadline has passed.
    pub fn is_overdue(&self) -> bool {
        self.now >= self.deadline
    }
}

/// Why no candidate came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub kind: TrainingFailure,
    /// One sentence for people.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn spans_follow_each_other_and_end_when_labels_are_ripe() {
        let lengths = SplitLengths {
            training: TimeDelta::days(14),
            threshold: TimeDelta::days(3),
            holdout: TimeDelta::days(4),
        };
        let plan = Plan::new(at("2026-05-30T02:00:00Z"), TimeDelta::days(1), lengths, 7).unwrap();
        assert_eq!(plan.holdout.end(), at("2026-05-29T02:00:00Z"));
        assert_eq!(plan.holdout.start(), at("2026-05-25T02:00:00Z"));
        assert_eq!(plan.threshold.end(), plan.holdout.start());
        assert_eq!(plan.threshold.start(), at("2026-05-22T02:00:00Z"));
        assert_eq!(plan.training.end(), plan.threshold.start());
        assert_eq!(plan.training.start(), at("2026-05-08T02:00:00Z"));
        let none = SplitLengths {
            threshold: TimeDelta::zero(),
            ..lengths
        };
        assert_eq!(
            Plan::new(at("2026-05-30T02:00:00Z"), TimeDelta::days(1), none, 7),
            None
        );
    }

    #[test]
    fn a_short_history_shrinks_the_slices_but_not_below_their_minimum() {
        let lengths = SplitLengths {
            training: TimeDelta::days(14),
            threshold: TimeDelta::days(3),
            holdout: TimeDelta::days(4),
        };
        let plan = Plan::new(at("2018-04-15T02:00:00Z"), TimeDelta::days(1), lengths, 7).unwrap();
        let two_days = TimeDelta::days(2);
        let short = plan.within(at("2018-04-01T00:00:00Z"), two_days).unwrap();
        assert_eq!(short.training.start(), at("2018-04-01T00:00:00Z"));
        assert_eq!(short.training.end(), at("2018-04-10T02:00:00Z"));
        assert_eq!(
            (short.threshold.length(), short.holdout.length()),
            (two_days, two_days)
        );
        assert_eq!(short.threshold.start(), short.training.end());
        assert_eq!(short.holdout.end(), plan.holdout.end());
        // Enough history: nothing changes.
        assert_eq!(plan.within(plan.training.start(), two_days), Some(plan));
        // Nothing left to train on.
        assert_eq!(plan.within(at("2018-04-10T02:00:00Z"), two_days), None);
        // A slice is never longer than it was set.
        let tiny = SplitLengths {
            threshold: TimeDelta::hours(12),
            ..lengths
        };
        let plan = Plan::new(at("2018-04-15T02:00:00Z"), TimeDelta::days(1), tiny, 7).unwrap();
        assert_eq!(
            plan.within(at("2018-04-01T00:00:00Z"), two_days)
                .unwrap()
                .threshold
                .length(),
            TimeDelta::hours(12)
        );
    }

    #[test]
    fn tokens_fit_the_platform_and_belong_to_one_attempt() {
        let job = JobId::of_key("a");
        assert_eq!(token_of(job, 1), token_of(job, 1));
        assert_ne!(token_of(job, 1), token_of(job, 2));
        assert_ne!(token_of(job, 1), token_of(JobId::of_key("b"), 1));
        assert_eq!(
            token_of(job, 1).len(),
            crate::backend::databricks::TOKEN_CHARACTERS_MAX
        );
    }

    #[test]
    fn words_and_states_name_each_other() {
        for state in JobState::ALL {
            assert_eq!(JobState::from_word(state.as_str()), Some(state));
        }
        assert_eq!(JobState::from_word("elsewhere"), None);
    }
}
