//! A decider with its servers, a table of payments, and everybody else played by the test.

use std::ops::Deref;

use chrono::{DateTime, TimeDelta, Utc};
use retrain_decider::RetrainDecider;
use schemas::events::{
    Artifact, Confusion, DriftDetected, DriftKind, DriftSeverity, ModelPromoted, ModelTrained,
    ModelValidated, PromotionKind, RetrainAsked, TrainingFailed, TrainingFailure, TrainingStarted,
    ValidationVerdict,
};
use schemas::{
    CheckId, DecisionId, EventBody, EventId, Finite, JobId, ModelName, ModelVersion, Sha256Digest, Share,
    Window,
};
use service_bench::{Bench, Replica};

/// Hour of the story; hour 0 is midnight of 1 March 2026.
pub fn at(hour: i64) -> DateTime<Utc> {
    "2026-03-01T00:00:00Z"
        .parse::<DateTime<Utc>>()
        .expect("an instant")
        + TimeDelta::hours(hour)
}

pub fn model() -> ModelName {
    ModelName::new("fraud-cards").expect("a name")
}

pub fn version(name: &str) -> ModelVersion {
    ModelVersion::new(name).expect("a version")
}

fn window() -> Window {
    Window::new(at(-400), at(-100)).expect("a window")
}

fn artifact() -> Artifact {
    Artifact {
        uri: "file:///models/x.json".to_owned(),
        sha256: Sha256Digest::new("ab".repeat(32)).expect("a digest"),
        bytes: 10,
        format: "vigie.model.v1".to_owned(),
    }
}

fn share(value: f64) -> Share {
    Share::new(value).expect("a share")
}

pub struct Scene {
    pub bench: Bench,
}

impl Deref for Scene {
    type Target = Bench;
    fn deref(&self) -> &Bench {
        &self.bench
    }
}

fn payments(rows: i64) -> String {
    format!(
        "create schema bank; \
         create table bank.payment (tx_time timestamptz not null, is_fraud boolean, amount float8); \
         insert into bank.payment select '{}'::timestamptz - make_interval(secs => n * 10), false, n \
         from generate_series(1, {rows}) n",
        at(200)
    )
}

impl Scene {
    /// Servers, and `rows` payments, one every ten seconds, up to hour 200.
    pub async fn new(rows: i64) -> Self {
        let mut bench = Bench::new("retrain-decider").await;
        // What a killed replica held is offered to the next one soon.
        bench.nats_settings = "ack_wait = \"5s\"";
        bench.run(&payments(rows)).await;
        chassis::clock::create_replay_clock(&bench.pool)
            .await
            .expect("the replay clock");
        Self { bench }
    }

    /// Takes the payments out of the service's database into one of their own, and gives its address.
    pub async fn move_payments_away(&self, rows: i64) -> String {
        let (server, own) = self.env.database_url.rsplit_once('/').expect("a database");
        let (name, url) = (format!("{own}_bank"), format!("{server}/{own}_bank"));
        self.run("drop schema bank cascade").await;
        self.run(&format!("create database {name}")).await;
        let bank = sqlx::PgPool::connect(&url).await.expect("connect");
        sqlx::raw_sql(sqlx::AssertSqlSafe(payments(rows)))
            .execute(&bank)
            .await
            .expect("the payments");
        bank.close().await;
        url
    }

    /// Starts a replica inside this process.
    pub async fn start(&self) -> Replica {
        self.start_with("").await
    }

    /// Starts one with more settings.
    pub async fn start_with(&self, more: &str) -> Replica {
        let settings = "[clock]\nsource = \"replay\"\n\
                        [models.fraud-cards]\nsource = \"postgres\"\ntable = \"bank.payment\"\ntime = \"tx_time\"\n\
                        label = \"is_fraud\"\nlabel_delay = \"1d\"\nfeatures = [\"amount\"]\n";
        self.bench
            .start::<RetrainDecider>(&format!("{settings}{more}"))
            .await
    }

    /// Publishes an event as another service would; the same name gives the same event id.
    pub async fn publish(&self, name: &str, body: impl EventBody) -> EventId {
        self.bench.publish(name, &model(), body).await
    }

    /// Status, reason of refusal, error and new version of every trigger, oldest first.
    pub async fn triggers(&self) -> Vec<(String, Option<String>, Option<String>, Option<String>)> {
        sqlx::query_as("select status, declined_reason, error_message, new_model_version from retraining_triggers order by id")
            .fetch_all(&self.pool)
            .await
            .expect("the triggers")
    }
}

pub fn drift(hour: i64, severity: DriftSeverity, champion: &str) -> DriftDetected {
    DriftDetected {
        check_id: CheckId::of_key(&format!("check/{hour}")),
        as_of: at(hour),
        champion: version(champion),
        window: Window::new(at(hour - 24), at(hour)).expect("a window"),
        rows: 5_000,
        kinds: vec![if severity == DriftSeverity::AlertOnly {
            DriftKind::Target
        } else {
            DriftKind::Data
        }],
        severity,
        since: at(hour),
        consecutive: 1,
        data_drift: Some(Finite::new(0.41).expect("finite")),
        features: Vec::new(),
        target: None,
        concept: None,
        estimated: None,
        prediction: None,
    }
}

pub fn asked(hour: i64, force: bool) -> RetrainAsked {
    RetrainAsked {
        as_of: at(hour),
        requested_by: "cli:ana".to_owned(),
        reason: "new terminals".to_owned(),
        force,
    }
}

pub fn started(decision_id: DecisionId, hour: i64) -> TrainingStarted {
    TrainingStarted {
        job_id: JobId::of_key("job"),
        decision_id,
        as_of: at(hour),
        backend: "local".to_owned(),
        attempt: 1,
        run_id: Some("run-7".to_owned()),
        run_url: None,
    }
}

pub fn failed(decision_id: DecisionId, hour: i64) -> TrainingFailed {
    TrainingFailed {
        job_id: JobId::of_key("job"),
        decision_id,
        as_of: at(hour),
        backend: "local".to_owned(),
        attempts: 1,
        failure: TrainingFailure::RunFailed,
        detail: "no fraud in the training window".to_owned(),
        run_id: None,
        run_url: None,
    }
}

pub fn trained(decision_id: DecisionId, hour: i64, name: &str) -> ModelTrained {
    ModelTrained {
        version: version(name),
        job_id: JobId::of_key("job"),
        decision_id,
        as_of: at(hour),
        backend: "local".to_owned(),
        algorithm: "random_forest".to_owned(),
        artifact: artifact(),
        training_window: window(),
        threshold_window: Window::new(at(-100), at(-50)).expect("a window"),
        holdout_window: Window::new(at(-50), at(-24)).expect("a window"),
        training_rows: 1000,
        training_frauds: 10,
        operating_threshold: share(0.4),
        seed: 1,
        duration_seconds: Finite::new(1.5).expect("finite"),
        reported: Vec::new(),
        mlflow_run_id: None,
    }
}

pub fn validated(
    decision_id: DecisionId,
    hour: i64,
    name: &str,
    verdict: ValidationVerdict,
) -> ModelValidated {
    let failures = match verdict {
        ValidationVerdict::Passed => Vec::new(),
        ValidationVerdict::Failed => vec!["recall 0.71 is below 0.80".to_owned()],
    };
    ModelValidated {
        version: version(name),
        decision_id,
        as_of: at(hour),
        verdict,
        failures,
        artifact: artifact(),
        training_window: window(),
        holdout_window: Window::new(at(-50), at(-24)).expect("a window"),
        rows: 1000,
        frauds: 20,
        operating_threshold: share(0.4),
        confusion: Confusion {
            true_positives: 17,
            false_positives: 2,
            false_negatives: 3,
            true_negatives: 978,
        },
        metrics: Vec::new(),
        gates: Vec::new(),
        score_counts: None,
    }
}

pub fn promoted(decision_id: DecisionId, hour: i64, name: &str, fence: u64) -> ModelPromoted {
    ModelPromoted {
        version: version(name),
        previous: None,
        decision_id,
        as_of: at(hour),
        effective_from: at(hour),
        kind: PromotionKind::Promotion,
        fence,
        artifact: artifact(),
        training_window: window(),
        operating_threshold: share(0.4),
        validated_recall: share(0.85),
        validated_frauds: 20,
        validated_precision: share(0.9),
        score_counts: None,
        registry: "embedded".to_owned(),
        registry_version: None,
    }
}
