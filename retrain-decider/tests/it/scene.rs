//! A decider with its servers, a table of payments, and everybody else played by the test.

use std::future::Future;
use std::time::{Duration, Instant};

use chassis::Sources;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use local_stack::TestEnv;
use retrain_decider::RetrainDecider;
use schemas::events::{
    Artifact, Confusion, DriftDetected, DriftKind, DriftSeverity, ModelPromoted, ModelTrained,
    ModelValidated, PromotionKind, RetrainAsked, TrainingFailed, TrainingFailure, TrainingStarted,
    ValidationVerdict,
};
use schemas::{
    Attributes, CheckId, DecisionId, Event, EventBody, EventId, Finite, JobId, ModelName, ModelVersion,
    Received, Sha256Digest, Share, TraceContext, Window,
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything; reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

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
    env: TestEnv,
    pub pool: PgPool,
    nats: async_nats::Client,
}

impl Scene {
    /// Servers, and `rows` payments, one every ten seconds, up to hour 200.
    pub async fn new(rows: i64) -> Self {
        chassis::install_crypto();
        let env = TestEnv::new().await;
        let pool = PgPool::connect(&env.database_url)
            .await
            .expect("connect to PostgreSQL");
        for statement in [
            "create schema bank",
            "create table bank.payment (tx_time timestamptz not null, is_fraud boolean, amount float8)",
        ] {
            sqlx::query(statement)
                .execute(&pool)
                .await
                .expect("create the table");
        }
        sqlx::query("insert into bank.payment select $1 - make_interval(secs => n * 10), false, n from generate_series(1, $2) n")
            .bind(at(200))
            .bind(rows)
            .execute(&pool)
            .await
            .expect("fill the table");
        chassis::clock::create_replay_clock(&pool)
            .await
            .expect("the replay clock");
        let nats = async_nats::connect(&env.nats_url).await.expect("connect to NATS");
        Self { env, pool, nats }
    }

    fn sources(&self) -> Sources {
        let text = format!(
            "[database]\nurl = {:?}\n[nats]\nurl = {:?}\nstream_bytes_max = 16777216\n[http]\nretrain_decider = \"\"\n\
             [clock]\nsource = \"replay\"\n\
             [models.fraud-cards]\nsource = \"postgres\"\ntable = \"bank.payment\"\ntime = \"tx_time\"\n\
             label = \"is_fraud\"\nlabel_delay = \"1d\"\nfeatures = [\"amount\"]\n",
            self.env.database_url, self.env.nats_url
        );
        Sources {
            overrides: vec![("the test".to_owned(), text)],
            ..Sources::default()
        }
    }

    /// Starts a replica inside this process.
    pub async fn start(&self) -> Replica {
        let stop = CancellationToken::new();
        let (sources, token) = (self.sources(), stop.clone());
        let task = tokio::spawn(async move { chassis::launch::<RetrainDecider>(&sources, token).await });
        eventually("the decider's table", || async {
            sqlx::query("select 1 from retrain_decider.model_state")
                .fetch_optional(&self.pool)
                .await
                .ok()
        })
        .await;
        let jetstream = async_nats::jetstream::new(self.nats.clone());
        eventually("the stream of events", || async {
            jetstream.get_stream("VIGIE").await.ok()
        })
        .await;
        Replica { stop, task }
    }

    pub async fn set_clock(&self, at: DateTime<Utc>) {
        chassis::clock::set_replay_clock(&self.pool, at)
            .await
            .expect("set the clock");
    }

    /// Publishes an event as another service would; the same name gives the same event id.
    pub async fn publish(&self, name: &str, body: impl EventBody) -> EventId {
        self.publish_about(name, &model(), body).await
    }

    pub async fn publish_about<B: EventBody>(&self, name: &str, model: &ModelName, body: B) -> EventId {
        let id = EventId::of_key(name);
        let attributes = Attributes {
            id,
            source: "/vigie/test".to_owned(),
            kind: B::KIND,
            time: at(0),
            model: model.clone(),
            correlation_id: id,
            causation_id: None,
            trace: TraceContext::default(),
        };
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in attributes.to_headers() {
            headers.insert(name, value.as_str());
        }
        let body: Event = body.into();
        self.publish_raw(B::KIND.subject(), headers, body.to_json().expect("JSON"))
            .await;
        id
    }

    pub async fn publish_raw(&self, subject: &str, headers: async_nats::HeaderMap, body: Vec<u8>) {
        let jetstream = async_nats::jetstream::new(self.nats.clone());
        let ack = jetstream
            .publish_with_headers(subject.to_owned(), headers, body.into())
            .await
            .expect("publish");
        ack.await.expect("an ack");
    }

    /// The events that the decider has published so far, in order.
    pub async fn said(&self) -> Vec<Received> {
        let rows: Vec<(serde_json::Value, Vec<u8>)> = sqlx::query_as(
            "select headers, data from retrain_decider.outbox where published_at is not null and subject not like 'dead.%' order by seq",
        )
        .fetch_all(&self.pool)
        .await
        .expect("the outbox");
        rows.iter()
            .map(|(headers, data)| {
                let pairs = headers.as_object().expect("headers").iter();
                schemas::decode(pairs.filter_map(|(n, v)| Some((n.as_str(), v.as_str()?))), data)
                    .expect("an event")
            })
            .collect()
    }

    /// Waits until the decider has said `count` things, and returns them.
    pub async fn said_after(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} decisions"), || async {
            let said = self.said().await;
            (said.len() >= count).then_some(said)
        })
        .await
    }

    /// Waits until the decider has a receipt for this event.
    pub async fn handled(&self, id: EventId) {
        eventually(&format!("a receipt for {id}"), || async {
            sqlx::query("select 1 from retrain_decider.inbox where event_id = $1")
                .bind(id.uuid())
                .fetch_optional(&self.pool)
                .await
                .ok()
                .flatten()
        })
        .await;
    }

    /// Status, reason of refusal, error and new version of every trigger, oldest first.
    pub async fn triggers(&self) -> Vec<(String, Option<String>, Option<String>, Option<String>)> {
        sqlx::query_as("select status, declined_reason, error_message, new_model_version from retraining_triggers order by id")
            .fetch_all(&self.pool)
            .await
            .expect("the triggers")
    }

    pub async fn subscribe(&self, subject: &str) -> async_nats::Subscriber {
        let subscription = self.nats.subscribe(subject.to_owned()).await.expect("subscribe");
        self.nats.flush().await.expect("flush");
        subscription
    }

    pub async fn next(subscription: &mut async_nats::Subscriber) -> async_nats::Message {
        tokio::time::timeout(PATIENCE, subscription.next())
            .await
            .expect("a message in time")
            .expect("a message")
    }
}

pub struct Replica {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Replica {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("a clean end");
    }

    /// Ends it wherever it is, as `kill -9` would.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err(), "it had ended before");
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
    }
}

pub fn promoted(decision_id: DecisionId, hour: i64, name: &str, fence: u64) -> ModelPromoted {
    ModelPromoted {
        version: version(name),
        previous: None,
        decision_id,
        as_of: at(hour),
        kind: PromotionKind::Promotion,
        fence,
        artifact: artifact(),
        training_window: window(),
        operating_threshold: share(0.4),
        validated_recall: share(0.85),
        validated_frauds: 20,
        validated_precision: share(0.9),
        registry: "embedded".to_owned(),
        registry_version: None,
    }
}
