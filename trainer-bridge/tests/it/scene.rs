//! A trainer-bridge with its servers, a table of payments, and everybody else played by the test.

use std::future::Future;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chassis::Sources;
use chrono::{DateTime, TimeDelta, Utc};
use local_stack::TestEnv;
use schemas::events::{
    Artifact, Confusion, MetricEstimate, ModelPromoted, ModelTrained, ModelValidated, Priority,
    PromotionRefused, RetrainRequested, TrainingFailed, TrainingStarted, TriggerKind, ValidationVerdict,
};
use schemas::{
    Attributes, DecisionId, Event, EventBody, EventId, EventKind, ModelName, ModelVersion, Received, Share,
    TraceContext,
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use trainer_bridge::TrainerBridge;

/// Longest wait for anything; reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(90);
/// The trace that every test's story belongs to.
pub const TRACE: &str = "00-11112222333344445555666677778888-aaaabbbbccccdddd-01";

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
    /// Dropped last: it stops the broker and drops the database.
    _env: TestEnv,
    pub pool: PgPool,
    nats: async_nats::Client,
    settings: String,
    pub folder: tempfile::TempDir,
}

impl Scene {
    /// Servers, and 40 days of 200 payments a day, of which about 4 in 100 are fraud in a square of two features.
    pub async fn new(settings: &str) -> Self {
        chassis::install_crypto();
        let env = TestEnv::new().await;
        let pool = PgPool::connect(&env.database_url)
            .await
            .expect("connect to PostgreSQL");
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
            sqlx::query(statement)
                .execute(&pool)
                .await
                .expect("create the payments");
        }
        let nats = async_nats::connect(&env.nats_url).await.expect("connect to NATS");
        let folder = tempfile::tempdir().expect("a folder");
        let settings = format!(
            "[database]\nurl = {:?}\n[nats]\nurl = {:?}\nstream_bytes_max = 16777216\n[http]\ntrainer_bridge = \"\"\n\
             [artifacts]\ndir = {:?}\n\
             [models.fraud-cards]\nsource = \"postgres\"\ntable = \"bank.payment\"\ntime = \"tx_time\"\nid = \"id\"\n\
             label = \"is_fraud\"\nlabel_time = \"labelled_at\"\nlabel_delay = \"1d\"\n\
             features = [\"tx_amount\", \"pace\", \"country\"]\n{settings}",
            env.database_url,
            env.nats_url,
            folder.path().join("artifacts").to_str().expect("a plain path"),
        );
        Self {
            pool,
            nats,
            settings,
            folder,
            _env: env,
        }
    }

    pub fn artifacts(&self) -> PathBuf {
        self.folder.path().join("artifacts")
    }

    fn sources(&self) -> Sources {
        Sources {
            overrides: vec![("the test".to_owned(), self.settings.clone())],
            ..Sources::default()
        }
    }

    /// Starts a replica inside this process.
    pub async fn start(&self) -> Replica {
        let stop = CancellationToken::new();
        let (sources, token) = (self.sources(), stop.clone());
        let task = tokio::spawn(async move { chassis::launch::<TrainerBridge>(&sources, token).await });
        let replica = Replica { stop, task };
        self.wait_until_up().await;
        replica
    }

    /// Starts the service's own binary, to be killed.
    pub async fn start_process(&self) -> Process {
        let file = self.folder.path().join("vigie.toml");
        std::fs::write(&file, &self.settings).expect("write the settings");
        let child = Command::new(env!("CARGO_BIN_EXE_trainer-bridge"))
            .arg("--config")
            .arg(&file)
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the trainer-bridge");
        let process = Process(child);
        self.wait_until_up().await;
        process
    }

    async fn wait_until_up(&self) {
        eventually("the service's tables", || async {
            sqlx::query("select 1 from trainer_bridge.promotion")
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
    }

    /// Publishes an event as another service would; the same name gives the same event id.
    pub async fn publish<B: EventBody>(&self, name: &str, body: B) -> EventId {
        let id = EventId::of_key(name);
        let attributes = Attributes {
            id,
            source: "/vigie/test".to_owned(),
            kind: B::KIND,
            time: day(0),
            model: model(),
            correlation_id: EventId::of_key("the loop"),
            causation_id: None,
            trace: TraceContext {
                parent: Some(TRACE.to_owned()),
                state: None,
            },
        };
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in attributes.to_headers() {
            headers.insert(name, value.as_str());
        }
        let body: Event = body.into();
        let jetstream = async_nats::jetstream::new(self.nats.clone());
        let bytes = body.to_json().expect("JSON");
        let ack = jetstream
            .publish_with_headers(B::KIND.subject(), headers, bytes.into())
            .await
            .expect("publish");
        ack.await.expect("an ack");
        id
    }

    /// Asks for a training as of a day.
    pub async fn request(&self, decision: &str, as_of: DateTime<Utc>) -> EventId {
        self.publish(&format!("request {decision}"), requested(decision, as_of))
            .await
    }

    /// The events of one kind that were published so far, in order.
    pub async fn said(&self, kind: EventKind) -> Vec<Received> {
        let rows: Vec<(serde_json::Value, Vec<u8>)> = sqlx::query_as(
            "select headers, data from trainer_bridge.outbox where published_at is not null and subject = $1 order by seq",
        )
        .bind(kind.subject())
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

    /// Waits until there are `count` events of a kind, and returns the last.
    pub async fn heard(&self, kind: EventKind, count: usize) -> Received {
        eventually(&format!("{count} of {kind}"), || async {
            let mut said = self.said(kind).await;
            (said.len() >= count).then(|| said.swap_remove(count - 1))
        })
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

    /// Waits until the service has a receipt for this event.
    pub async fn handled(&self, id: EventId) {
        eventually(&format!("a receipt for {id}"), || async {
            sqlx::query("select 1 from trainer_bridge.inbox where event_id = $1")
                .bind(id.uuid())
                .fetch_optional(&self.pool)
                .await
                .ok()
                .flatten()
        })
        .await;
    }

    /// One text from the database.
    pub async fn text(&self, query: &'static str) -> Option<String> {
        sqlx::query_scalar(query)
            .fetch_optional(&self.pool)
            .await
            .expect("a query")
            .flatten()
    }

    /// Waits until a query gives this text.
    pub async fn until(&self, query: &'static str, expected: &str) {
        eventually(&format!("`{query}` to be `{expected}`"), || async {
            (self.text(query).await.as_deref() == Some(expected)).then_some(())
        })
        .await;
    }

    /// How many rows a query counts.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query)
            .fetch_one(&self.pool)
            .await
            .expect("a count")
    }
}

/// A service inside this process.
pub struct Replica {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Replica {
    /// Stops politely; a failure of the service fails the test.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("a clean end");
    }

    /// Ends it wherever it is.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err(), "it had ended before");
    }
}

/// A service in a process of its own; killed when dropped.
pub struct Process(Child);

impl Process {
    /// `kill -9`.
    pub fn kill(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
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
