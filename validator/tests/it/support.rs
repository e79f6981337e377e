//! A bank's payments, a model whose scores can be worked out by hand, and the events around it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_nats::HeaderMap;
use async_nats::jetstream;
use chassis::Sources;
use chrono::{DateTime, TimeDelta, Utc};
use local_stack::TestEnv;
use schemas::events::{Artifact, ModelTrained, ModelValidated};
use schemas::{
    Attributes, DecisionId, Event, EventId, EventKind, Finite, JobId, ModelName, ModelVersion, Received,
    Share, TraceContext, Window,
};
use scoring::{Body, Encoding, FORMAT, Feature, Forest, LEAF, ModelArtifact, Tree, digest_of};
use service_bench::Replica;
pub use service_bench::{PATIENCE, eventually, headers_of};
use sqlx::PgPool;
use validator::Validator;

pub const STREAM: &str = "VIGIE";

/// Settings of the model under test; `[validation]` is left at its defaults.
pub const MODEL: &str = r#"
[models.fraud-cards]
source = "postgres"
table = "bank.payment"
time = "tx_time"
label = "is_fraud"
label_time = "labelled_at"
label_delay = "1d"
id = "id"
features = ["amount", "country"]
"#;

pub fn day(day: i64) -> DateTime<Utc> {
    "2026-03-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(day)
}

pub fn window(from: i64, to: i64) -> Window {
    Window::new(day(from), day(to)).unwrap()
}

pub fn model() -> ModelName {
    ModelName::new("fraud-cards").unwrap()
}

/// Payments of the holdout by what the model will say of them: it flags what costs more than 100.
#[derive(Debug, Clone, Copy)]
pub struct Holdout {
    pub found: i64,
    pub missed: i64,
    pub false_alarms: i64,
    pub let_through: i64,
}

impl Holdout {
    /// Recall 60 of 75, precision 60 of 80: both exactly at the limit.
    pub const AT_THE_LIMIT: Self = Self {
        found: 60,
        missed: 15,
        false_alarms: 20,
        let_through: 905,
    };
}

/// Servers, a bank, a folder for artefacts.
pub struct Bench {
    pub env: TestEnv,
    pub pool: PgPool,
    pub folder: tempfile::TempDir,
    pub jetstream: jetstream::Context,
}

impl Bench {
    pub async fn new(holdout: Holdout) -> Self {
        chassis::install_crypto();
        let env = TestEnv::new().await;
        let pool = PgPool::connect(&env.database_url).await.unwrap();
        let url: url::Url = env.nats_url.parse().unwrap();
        let client = async_nats::ConnectOptions::new()
            .user_and_password(
                url.username().to_owned(),
                url.password().unwrap_or_default().to_owned(),
            )
            .connect(env.nats_url.as_str())
            .await
            .unwrap();
        let bench = Self {
            env,
            pool,
            folder: tempfile::tempdir().unwrap(),
            jetstream: jetstream::new(client),
        };
        bench.fill(holdout).await;
        bench
    }

    async fn fill(&self, holdout: Holdout) {
        for statement in [
            "create schema bank",
            "create table bank.payment (id bigint generated always as identity, tx_time timestamptz not null, \
             is_fraud boolean, labelled_at timestamptz, amount double precision, country text)",
        ] {
            sqlx::query(statement).execute(&self.pool).await.unwrap();
        }
        for (rows, fraud, amount) in [
            (holdout.found, true, 200.0),
            (holdout.missed, true, 50.0),
            (holdout.false_alarms, false, 200.0),
            (holdout.let_through, false, 50.0),
        ] {
            self.pay(rows, 17, fraud, amount, Some(1)).await;
        }
        // None of these may count: before and after the window, known too late, never known.
        self.pay(200, 16, true, 50.0, Some(1)).await;
        self.pay(200, 21, true, 50.0, Some(0)).await;
        self.pay(200, 18, true, 50.0, Some(30)).await;
        self.pay(200, 18, true, 50.0, None).await;
    }

    /// Payments spread over one day, labelled so many days later.
    pub async fn pay(&self, rows: i64, at: i64, fraud: bool, amount: f64, known_after: Option<i64>) {
        sqlx::query(
            "insert into bank.payment (tx_time, is_fraud, labelled_at, amount, country) \
             select at, $3, at + make_interval(days => $5), $4, 'FR' \
             from (select $2 + (row - 1) * interval '1 day' / $1 as at from generate_series(1, $1) row) rows",
        )
        .bind(rows)
        .bind(day(at))
        .bind(fraud)
        .bind(amount)
        .bind(known_after.map(|days| i32::try_from(days).unwrap()))
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Writes an artefact and says where it is.
    pub fn write(&self, name: &str, artifact: &ModelArtifact) -> Artifact {
        let bytes = artifact.to_bytes().unwrap();
        let path = self.path(name);
        std::fs::write(&path, &bytes).unwrap();
        reference(&file_uri(&path), &bytes)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn sources(&self, settings: &str) -> Sources {
        Sources {
            overrides: vec![("the test".to_owned(), settings.to_owned())],
            environment: self.environment(),
            ..Sources::default()
        }
    }

    pub fn environment(&self) -> BTreeMap<String, String> {
        let folder = self.folder.path().display().to_string();
        [
            ("NATS_URL", self.env.nats_url.as_str()),
            ("FRAUD_DATABASE_URL", self.env.database_url.as_str()),
            ("VIGIE__HTTP__VALIDATOR", ""),
            ("VIGIE__ARTIFACTS__DIR", folder.as_str()),
            // The smallest that is allowed, so that the redelivery after a crash comes soon.
            ("VIGIE__NATS__ACK_WAIT", "5s"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Starts the service in this process and waits until its streams are there.
    pub async fn start(&self, settings: &str) -> Replica {
        let replica = Replica::launch::<Validator>(self.sources(settings));
        self.until_ready().await;
        replica
    }

    pub async fn until_ready(&self) {
        eventually("the service's consumer is there", async || {
            let stream = self.jetstream.get_stream(STREAM).await.ok()?;
            stream.consumer_info("validator").await.ok()
        })
        .await;
    }

    /// Publishes `model.trained` as the trainer would; returns its id.
    pub async fn announce(&self, trained: &ModelTrained) -> EventId {
        let attributes = attributes();
        self.publish(
            headers_of(&attributes),
            Event::from(trained.clone()).to_json().unwrap(),
        )
        .await;
        attributes.id
    }

    pub async fn publish(&self, headers: HeaderMap, body: Vec<u8>) {
        let subject = EventKind::ModelTrained.subject();
        self.jetstream
            .publish_with_headers(subject, headers, body.into())
            .await
            .unwrap()
            .await
            .unwrap();
    }

    /// Every `model.validated` in the stream.
    pub async fn validated(&self) -> Vec<(Attributes, ModelValidated)> {
        let mut stream = self.jetstream.get_stream(STREAM).await.unwrap();
        let state = stream.info().await.unwrap().state.clone();
        let mut found = Vec::new();
        if state.messages == 0 {
            return found;
        }
        for sequence in state.first_sequence..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            if message.subject.as_str() != EventKind::ModelValidated.subject() {
                continue;
            }
            let headers: Vec<(&str, &str)> = message
                .headers
                .iter()
                .filter_map(|(name, values)| Some((name.as_ref(), values.first()?.as_str())))
                .collect();
            match schemas::decode(headers, &message.payload).unwrap() {
                Received {
                    attributes,
                    event: Event::ModelValidated(body),
                } => found.push((attributes, body)),
                other => panic!("{other:?} under the subject of model.validated"),
            }
        }
        found
    }

    /// The verdict that follows from an event.
    pub async fn verdict_on(&self, event: EventId) -> (Attributes, ModelValidated) {
        eventually(&format!("event {event} has its verdict"), async || {
            self.validated()
                .await
                .into_iter()
                .find(|(attributes, _)| attributes.causation_id == Some(event))
        })
        .await
    }
}

pub fn file_uri(path: &Path) -> String {
    url::Url::from_file_path(path).unwrap().to_string()
}

pub fn reference(uri: &str, bytes: &[u8]) -> Artifact {
    Artifact {
        uri: uri.to_owned(),
        sha256: digest_of(bytes),
        bytes: bytes.len() as u64,
        format: FORMAT.to_owned(),
    }
}

/// Flags what costs more than 100; the country is read and changes nothing.
pub fn stump() -> ModelArtifact {
    let tree = Tree {
        feature: vec![0, LEAF, LEAF],
        threshold: vec![100.0, 0.0, 0.0],
        left: vec![1, 0, 0],
        right: vec![2, 0, 0],
        value: vec![0.0, 0.1, 0.9],
    };
    ModelArtifact {
        format: FORMAT.to_owned(),
        model: model(),
        algorithm: "by_hand".to_owned(),
        created: day(22),
        seed: 7,
        training_window: window(0, 14),
        operating_threshold: 0.5,
        features: vec![
            Feature {
                name: "amount".to_owned(),
                encoding: Encoding::Numeric {
                    impute: 0.0,
                    standardise: None,
                },
            },
            Feature {
                name: "country".to_owned(),
                encoding: Encoding::Category {
                    levels: vec!["FR".to_owned(), "BE".to_owned()],
                },
            },
        ],
        body: Body::Forest(Forest { trees: vec![tree] }),
        notes: BTreeMap::new(),
    }
}

/// What the trainer announces: trained on days 0 to 14, threshold on 14 to 17, holdout 17 to 21, as of day 22.
pub fn trained(version: &str, artifact: Artifact) -> ModelTrained {
    ModelTrained {
        version: ModelVersion::new(version).unwrap(),
        job_id: JobId::of_key(version),
        decision_id: DecisionId::of_key(version),
        as_of: day(22),
        backend: "local".to_owned(),
        algorithm: "by_hand".to_owned(),
        artifact,
        training_window: window(0, 14),
        threshold_window: window(14, 17),
        holdout_window: window(17, 21),
        training_rows: 10_000,
        training_frauds: 80,
        operating_threshold: Share::new(0.5).unwrap(),
        seed: 7,
        duration_seconds: Finite::new(1.5).unwrap(),
        reported: Vec::new(),
        mlflow_run_id: None,
    }
}

pub fn attributes() -> Attributes {
    let id = EventId::fresh();
    Attributes {
        id,
        source: "/vigie/trainer-bridge".to_owned(),
        kind: EventKind::ModelTrained,
        time: day(22),
        model: model(),
        correlation_id: EventId::of_key("the loop"),
        causation_id: None,
        trace: TraceContext::default(),
    }
}
