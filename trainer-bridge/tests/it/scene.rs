//! A trainer-bridge with its servers, a table of payments, and everybody else played by the test.

use std::ops::Deref;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use schemas::events::{
    Artifact, Confusion, MetricEstimate, ModelPromoted, ModelTrained, ModelValidated, Priority,
    PromotionRefused, RetrainRequested, ScoreCounts, TrainingFailed, TrainingStarted, TriggerKind,
    ValidationVerdict,
};
use schemas::{
    Attributes, DecisionId, Event, EventBody, EventId, EventKind, ModelName, ModelVersion, Share,
    TraceContext,
};
use service_bench::{Bench, Process, Replica};
use trainer_bridge::TrainerBridge;

/// The trace that every test's story belongs to.
pub const TRACE: &str = "00-11112222333344445555666677778888-aaaabbbbccccdddd-01";

/// Day of the story; day 0 is midnight of 1 March 2026, when the payments begin.
pub fn day(day: i64) -> DateTime<Utc> {
    "2026-03-01T00:00:00Z"
        .parse::<DateTime<Utc>>()
        .expect("an instant")
        + TimeDelta::days(day)
}

pub fn model() -> ModelName {
    ModelName::new("fraud-cards").expect("a name")
}

/// Small, quick trainings.
pub const QUICK: &str = "[training]\nrows_min = 100\nfrauds_min = 10\nthreshold_frauds_min = 3\nlease = \"1s\"\n\
                         [training.random_forest]\ntrees = 20\n";

pub struct Scene {
    pub bench: Bench,
    settings: String,
}

impl Deref for Scene {
    type Target = Bench;
    fn deref(&self) -> &Bench {
        &self.bench
    }
}

impl Scene {
    /// Servers, and 40 days of 200 payments a day, of which about 4 in 100 are fraud in a square of two features.
    pub async fn new(settings: &str) -> Self {
        let bench = Bench::new("trainer-bridge").await;
        for statement in [
            "create schema bank",
            "create table bank.payment (id bigint primary key, tx_time timestamptz not null, is_fraud boolean, \
             labelled_at timestamptz, tx_amount float8, pace float8, country text)",
            // Even numbers from a hash: the same rows in every run.
            "create function bank.even(text) returns float8 language sql immutable as \
             $$ select ('x' || substr(md5($1), 1, 8))::bit(32)::bigint / 4294967296.0 $$",
            "insert into bank.payment select n, timestamptz '2026-03-01' + n * interval '432 seconds', \
             bank.even('a' || n) between 0.4 and 0.6 and bank.even('b' || n) between 0.4 and 0.6, \
             timestamptz '2026-03-01' + n * interval '432 seconds' + interval '20 hours', \
             100 * bank.even('a' || n), bank.even('b' || n), (array['FR', 'BE', 'DE'])[1 + n % 3] \
             from generate_series(0, 7999) n",
            "create index on bank.payment (tx_time)",
        ] {
            bench.run(statement).await;
        }
        let settings = format!(
            "[artifacts]\ndir = {:?}\n\
             [models.fraud-cards]\nsource = \"postgres\"\ntable = \"bank.payment\"\ntime = \"tx_time\"\nid = \"id\"\n\
             label = \"is_fraud\"\nlabel_time = \"labelled_at\"\nlabel_delay = \"1d\"\n\
             features = [\"tx_amount\", \"pace\", \"country\"]\n{settings}",
            bench
                .folder
                .path()
                .join("artifacts")
                .to_str()
                .expect("a plain path"),
        );
        Self { bench, settings }
    }

    pub fn artifacts(&self) -> PathBuf {
        self.folder.path().join("artifacts")
    }

    /// Starts a replica inside this process.
    pub async fn start(&self) -> Replica {
        self.bench.start::<TrainerBridge>(&self.settings).await
    }

    /// The same with another name for the model in the settings.
    pub async fn start_as(&self, model: &str) -> Replica {
        let settings = self
            .settings
            .replace("[models.fraud-cards]", &format!("[models.{model}]"));
        self.bench.start::<TrainerBridge>(&settings).await
    }

    /// Starts the service's own binary, to be killed.
    pub async fn start_process(&self) -> Process {
        self.bench
            .start_process(env!("CARGO_BIN_EXE_trainer-bridge"), &self.settings)
            .await
    }

    /// Publishes an event as another service would, within the test's one loop and trace; the same name gives the same id.
    pub async fn publish<B: EventBody>(&self, name: &str, body: B) -> EventId {
        let attributes = Attributes {
            correlation_id: EventId::of_key("the loop"),
            trace: TraceContext {
                parent: Some(TRACE.to_owned()),
                state: None,
            },
            ..service_bench::attributes::<B>(name, &model())
        };
        self.publish_as(attributes, body).await
    }

    /// Asks for a training as of a day.
    pub async fn request(&self, decision: &str, as_of: DateTime<Utc>) -> EventId {
        self.publish(&format!("request {decision}"), requested(decision, as_of))
            .await
    }

    pub async fn trained(&self, count: usize) -> ModelTrained {
        match self.heard(EventKind::ModelTrained, count).await.event {
            Event::ModelTrained(body) => body,
            other => panic!("not a candidate: {other:?}"),
        }
    }

    pub async fn failed(&self, count: usize) -> TrainingFailed {
        match self.heard(EventKind::TrainingFailed, count).await.event {
            Event::TrainingFailed(body) => body,
            other => panic!("not a failure: {other:?}"),
        }
    }

    pub async fn started(&self, count: usize) -> TrainingStarted {
        match self.heard(EventKind::TrainingStarted, count).await.event {
            Event::TrainingStarted(body) => body,
            other => panic!("not a beginning: {other:?}"),
        }
    }

    pub async fn promoted(&self, count: usize) -> ModelPromoted {
        match self.heard(EventKind::ModelPromoted, count).await.event {
            Event::ModelPromoted(body) => body,
            other => panic!("not a promotion: {other:?}"),
        }
    }

    pub async fn refused(&self, count: usize) -> PromotionRefused {
        match self.heard(EventKind::PromotionRefused, count).await.event {
            Event::PromotionRefused(body) => body,
            other => panic!("not a refusal: {other:?}"),
        }
    }
}

pub fn requested(decision: &str, as_of: DateTime<Utc>) -> RetrainRequested {
    RetrainRequested {
        decision_id: DecisionId::of_key(decision),
        as_of,
        trigger: TriggerKind::Schedule,
        priority: Priority::Scheduled,
        reason: "the test asks".to_owned(),
        champion: None,
        new_rows: None,
        rules: Vec::new(),
    }
}

fn share(value: f64) -> Share {
    Share::new(value).expect("a share")
}

/// A validation of a candidate, with made-up figures.
pub fn validated(trained: &ModelTrained, verdict: ValidationVerdict) -> ModelValidated {
    let metric = |name: &str, value| MetricEstimate {
        name: name.to_owned(),
        value: Some(share(value)),
        interval: None,
    };
    ModelValidated {
        version: trained.version.clone(),
        decision_id: trained.decision_id,
        as_of: trained.as_of,
        verdict,
        failures: match verdict {
            ValidationVerdict::Passed => Vec::new(),
            ValidationVerdict::Failed => vec!["recall 0.41 is below 0.80".to_owned()],
        },
        artifact: trained.artifact.clone(),
        training_window: trained.training_window,
        holdout_window: trained.holdout_window,
        rows: 800,
        frauds: 32,
        operating_threshold: trained.operating_threshold,
        confusion: Confusion {
            true_positives: 28,
            false_positives: 4,
            false_negatives: 4,
            true_negatives: 764,
        },
        metrics: vec![
            metric("recall", 0.875),
            metric("precision", 0.875),
            metric("f1", 0.875),
            metric("roc_auc", 0.97),
            metric("false_positive_rate", 0.005),
        ],
        gates: Vec::new(),
        score_counts: Some(ScoreCounts {
            genuine: [vec![0; 25], vec![764, 4], vec![0; 24]].concat(),
            frauds: [vec![0; 25], vec![4, 28], vec![0; 24]].concat(),
        }),
    }
}

/// The same artefact address, other bytes.
pub fn with_other_digest(artifact: &Artifact) -> Artifact {
    Artifact {
        sha256: scoring::digest_of(b"other bytes"),
        ..artifact.clone()
    }
}

pub fn version(name: &str) -> ModelVersion {
    ModelVersion::new(name).expect("a version")
}
