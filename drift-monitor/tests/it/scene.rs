//! A monitor with its servers, a table of payments, and everybody else played by the test.

use std::ops::Deref;

use chrono::{DateTime, TimeDelta, Utc};
use drift_monitor::DriftMonitor;
use local_stack::peers::databricks::Databricks;
use schemas::events::{
    Artifact, DriftCheckRequested, DriftChecked, DriftDetected, ModelPromoted, PromotionKind,
};
use schemas::{
    DecisionId, Event, EventBody, EventId, ModelName, ModelVersion, Received, Sha256Digest, Share, Window,
};
use service_bench::{Bench, Replica, eventually};

/// Hour of the story; hour 0 is midnight of 2 March 2026.
pub fn at(hour: i64) -> DateTime<Utc> {
    "2026-03-02T00:00:00Z"
        .parse::<DateTime<Utc>>()
        .expect("an instant")
        + TimeDelta::hours(hour)
}

pub fn span(from: i64, to: i64) -> Window {
    Window::new(at(from), at(to)).expect("a window")
}

pub fn model() -> ModelName {
    ModelName::new("fraud-cards").expect("a name")
}

/// Settings of the model on the table, after `source` and `features`.
const COLUMNS: &str = "time = \"tx_time\"\nlabel = \"is_fraud\"\nlabel_time = \"labelled_at\"\nlabel_delay = \"1d\"\n\
                       score = \"score\"\nid = \"transaction_id\"\n";

pub struct Scene {
    pub bench: Bench,
    model: String,
    drift: String,
    more: String,
}

impl Deref for Scene {
    type Target = Bench;
    fn deref(&self) -> &Bench {
        &self.bench
    }
}

impl Scene {
    /// Servers and payments, one a minute, of hours -600 to 400: amount, channel, a weekday that is not watched,
    /// one fraud in twenty, labels after a day, and scores with recall 0.88 and precision 0.90 at 0.5.
    pub async fn new() -> Self {
        let scene = Self {
            bench: Bench::new("drift-monitor").await,
            model: format!(
                "source = \"postgres\"\ntable = \"bank.payment\"\n{COLUMNS}\
                 features = [\"amount\", \"channel\", \"weekday\"]\nnot_monitored = [\"weekday\"]\n"
            ),
            drift: String::new(),
            more: String::new(),
        };
        scene.run("create schema bank").await;
        scene
            .run(&format!(
                "create table bank.payment as \
                 with dice as (select setseed(0.42)), \
                 rows as (select n, random() a, random() c, random() f, random() s from dice, generate_series(0, 59999) n) \
                 select n as transaction_id, '{}'::timestamptz + make_interval(mins => n) as tx_time, \
                 round((-50 * ln(1 - a))::numeric, 2) as amount, \
                 case when c < 0.7 then 'chip' when c < 0.95 then 'online' else 'mail' end as channel, \
                 extract(isodow from '{}'::timestamptz + make_interval(mins => n))::int as weekday, \
                 f < 0.05 as is_fraud, '{}'::timestamptz + make_interval(mins => n + 1440) as labelled_at, \
                 case when f < 0.05 then case when s < 0.88 then 0.9 else 0.1 end \
                 else case when s < 0.005 then 0.9 else 0.1 end end::real as score from rows",
                at(-600),
                at(-600),
                at(-600)
            ))
            .await;
        scene.run("create index on bank.payment (tx_time)").await;
        chassis::clock::create_replay_clock(&scene.pool)
            .await
            .expect("the replay clock");
        scene
    }

    /// Other `[models.fraud-cards]` settings, for replicas started from now on.
    pub fn with_model(mut self, source_and_features: &str) -> Self {
        self.model = format!("{COLUMNS}{source_and_features}\n");
        self
    }

    /// Further `[drift]` settings, for replicas started from now on.
    pub fn with_drift(mut self, settings: &str) -> Self {
        settings.clone_into(&mut self.drift);
        self
    }

    /// Further sections, for replicas started from now on.
    pub fn with_settings(mut self, sections: &str) -> Self {
        sections.clone_into(&mut self.more);
        self
    }

    /// Its payments behind a warehouse, with the settings of its features and further sections.
    pub async fn behind_a_warehouse(self, features: &str, more: &str) -> (Databricks, Self) {
        let workspace = Databricks::start().await.expect("a workspace");
        let database = &self.bench.env.database_url;
        workspace
            .add_warehouse("fa1e", database)
            .await
            .expect("a warehouse");
        let (url, token) = (workspace.url(), workspace.token());
        let scene = self
            .with_model(&format!(
                "source = \"databricks\"\ntable = \"main.bank.payment\"\n{features}"
            ))
            .with_settings(&format!(
                "{more}[warehouse]\nhost = {url:?}\ntoken = {token:?}\nid = \"fa1e\"\n"
            ));
        (workspace, scene)
    }

    /// Changes payments of hours `[from, to)`.
    pub async fn change(&self, from: i64, to: i64, set: &str) {
        self.run(&format!(
            "update bank.payment set {set} where tx_time >= '{}' and tx_time < '{}'",
            at(from),
            at(to)
        ))
        .await;
    }

    /// Starts a replica inside this process.
    pub async fn start(&self) -> Replica {
        let settings = format!(
            "[clock]\nsource = \"replay\"\n[drift]\nlateness = \"0s\"\n{}\n[models.fraud-cards]\n{}\n{}",
            self.drift, self.model, self.more
        );
        self.bench.start::<DriftMonitor>(&settings).await
    }

    pub async fn set_clock(&self, hour: i64) {
        self.bench.set_clock(at(hour)).await;
    }

    /// Publishes an event as another service would; the same name gives the same event id.
    pub async fn publish(&self, name: &str, body: impl EventBody) -> EventId {
        self.bench.publish(name, &model(), body).await
    }

    pub async fn promote(&self, promoted: ModelPromoted) {
        let id = self
            .publish(&format!("promoted/{}", promoted.fence), promoted)
            .await;
        self.handled(id).await;
    }

    /// Asks for a check and waits for what the monitor says of it.
    pub async fn check(&self, hour: i64) -> Checked {
        self.check_at(at(hour), &format!("check/{hour}")).await
    }

    pub async fn check_at(&self, as_of: DateTime<Utc>, name: &str) -> Checked {
        let asked = DriftCheckRequested {
            as_of,
            requested_by: "cli:ana".to_owned(),
            reason: String::new(),
        };
        let id = self.publish(name, asked).await;
        self.handled(id).await;
        let said = self.recorded().await;
        let loop_of = |received: &&Received| received.attributes.correlation_id == id;
        let mut answer = Checked {
            checked: None,
            detected: None,
        };
        for received in said.iter().filter(loop_of) {
            match &received.event {
                Event::DriftChecked(checked) => answer.checked = Some(checked.clone()),
                Event::DriftDetected(detected) => answer.detected = Some(detected.clone()),
                other => panic!("the monitor does not say {other:?}"),
            }
        }
        answer
    }

    /// Waits until so many checks are recorded, and returns instant, verdict and severity of each, oldest first.
    pub async fn checks(&self, count: usize) -> Vec<(DateTime<Utc>, String, Option<String>)> {
        eventually(&format!("{count} checks"), async || {
            let rows: Vec<(DateTime<Utc>, String, Option<String>)> =
                sqlx::query_as("select as_of, verdict, severity from drift_checks order by as_of")
                    .fetch_all(&self.pool)
                    .await
                    .ok()?;
            (rows.len() >= count).then_some(rows)
        })
        .await
    }
}

/// What the monitor said of one check.
#[derive(Debug)]
pub struct Checked {
    checked: Option<DriftChecked>,
    pub detected: Option<DriftDetected>,
}

impl Checked {
    pub fn checked(&self) -> &DriftChecked {
        self.checked.as_ref().expect("drift.checked was said")
    }

    pub fn detected(&self) -> &DriftDetected {
        self.detected
            .as_ref()
            .unwrap_or_else(|| panic!("drift.detected was not said: {:?}", self.checked))
    }

    /// Value of a metric.
    pub fn metric(&self, name: &str, feature: Option<&str>) -> f64 {
        let metrics = &self.checked().metrics;
        let found = metrics
            .iter()
            .find(|metric| metric.name == name && metric.feature.as_deref() == feature);
        found
            .unwrap_or_else(|| panic!("no {name} of {feature:?} in {metrics:?}"))
            .value
            .get()
    }

    /// Reason and effect on the verdict of what could not be measured.
    pub fn reasons(&self) -> Vec<(String, bool)> {
        let missing = self.checked().not_measured.iter();
        missing
            .map(|missing| (missing.reason.clone(), missing.blocks_verdict))
            .collect()
    }
}

fn share(value: f64) -> Share {
    Share::new(value).expect("a share")
}

/// Version `name`, trained on the 400 hours that end five days before `hour`.
pub fn promoted(name: &str, fence: u64, hour: i64) -> ModelPromoted {
    ModelPromoted {
        version: ModelVersion::new(name).expect("a version"),
        previous: None,
        decision_id: DecisionId::of_key(name),
        as_of: at(hour),
        effective_from: at(hour),
        kind: PromotionKind::Promotion,
        fence,
        artifact: Artifact {
            uri: "file:///models/x.json".to_owned(),
            sha256: Sha256Digest::new("ab".repeat(32)).expect("a digest"),
            bytes: 10,
            format: "vigie.model.v1".to_owned(),
        },
        training_window: span(hour - 520, hour - 120),
        operating_threshold: share(0.5),
        validated_recall: share(0.88),
        validated_frauds: 300,
        validated_precision: share(0.9),
        score_counts: None,
        registry: "embedded".to_owned(),
        registry_version: None,
    }
}
