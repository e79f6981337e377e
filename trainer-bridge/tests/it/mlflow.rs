//! The MLflow registry against a real MLflow server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chassis::rest::Credentials;
use local_stack::hostile::NAMES;
use local_stack::peers::mlflow::{Mlflow as Server, shared_mlflow};
use schemas::events::{Artifact, ReportedMetric, ValidationVerdict};
use schemas::{DecisionId, EventId, EventKind, Finite, JobId, ModelName, ModelVersion, Share};
use serde_json::Value;
use trainer_bridge::job::{Candidate, Order, Plan, SplitLengths, Stages};
use trainer_bridge::registry::mlflow::{ALIAS, Mlflow};
use trainer_bridge::registry::mlflow_client::Client;
use trainer_bridge::registry::{Promoting, Registering, Registration, Registry as _, RegistryError};

use service_bench::eventually;

use crate::scene::{QUICK, Scene, TRACE, day, validated};

fn client(server: &Server) -> Client {
    chassis::install_crypto();
    let url = url::Url::parse(&server.url()).unwrap();
    Client::new(url, Credentials::None, Duration::from_mins(1)).unwrap()
}

/// MLflow's answer, read without our client.
async fn plainly(server: &Server, path: &str) -> Value {
    let url = format!("{}/api/2.0/mlflow/{path}", server.url());
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

fn tag<'a>(tags: &'a Value, key: &str) -> Option<&'a str> {
    tags.as_array()?.iter().find(|tag| tag["key"] == key)?["value"].as_str()
}

#[tokio::test]
async fn a_training_is_logged_registered_and_promoted_with_tags_that_lead_back() {
    let server = shared_mlflow().await.expect("a real MLflow server");
    let settings = format!(
        "{QUICK}[mlflow]\ntracking_uri = {:?}\nexperiment = \"whole story\"\n",
        server.url()
    );
    let scene = Scene::new(&settings).await;
    let replica = scene.start().await;
    scene.request("one", day(30)).await;
    let trained = scene.trained(1).await;
    let run_id = trained.mlflow_run_id.clone().expect("a tracking run");

    let run = &plainly(server, &format!("runs/get?run_id={run_id}")).await["run"];
    assert_eq!(run["info"]["status"], "FINISHED");
    assert_eq!(run["info"]["run_name"], trained.version.as_str());
    let tags = &run["data"]["tags"];
    assert_eq!(
        tag(tags, "vigie.job_id"),
        Some(trained.job_id.to_string().as_str())
    );
    assert_eq!(
        tag(tags, "vigie.decision_id"),
        Some(trained.decision_id.to_string().as_str())
    );
    assert_eq!(
        tag(tags, "vigie.correlation_id"),
        Some(EventId::of_key("the loop").to_string().as_str())
    );
    assert_eq!(tag(tags, "vigie.sha256"), Some(trained.artifact.sha256.as_str()));
    assert_eq!(tag(tags, "vigie.trace_id"), Some(&TRACE[3..35]));
    assert_eq!(tag(&run["data"]["params"], "algorithm"), Some("random_forest"));
    assert_eq!(tag(&run["data"]["params"], "trees"), Some("20"));
    let metrics = run["data"]["metrics"].as_array().unwrap();
    let precision = metrics
        .iter()
        .find(|metric| metric["key"] == "threshold.average_precision")
        .unwrap();
    let reported = trained
        .reported
        .iter()
        .find(|metric| metric.name == "average_precision")
        .unwrap();
    assert_eq!(precision["value"].as_f64(), Some(reported.value.get()));

    // What MLflow hands out is what was trained.
    let uri = run["info"]["artifact_uri"]
        .as_str()
        .unwrap()
        .replace("mlflow-artifacts:/", "");
    let url = format!(
        "{}/api/2.0/mlflow-artifacts/artifacts/{uri}/model/model.json",
        server.url()
    );
    let bytes = reqwest::get(url).await.unwrap().bytes().await.unwrap();
    assert_eq!(scoring::digest_of(&bytes), trained.artifact.sha256);

    scene
        .publish("validated", validated(&trained, ValidationVerdict::Passed))
        .await;
    let promoted = scene.promoted(1).await;
    assert_eq!(
        (promoted.registry.as_str(), promoted.registry_version.as_deref()),
        ("mlflow", Some("1"))
    );
    let path = format!("registered-models/alias?name=fraud-cards&alias={ALIAS}");
    let champion = &plainly(server, &path).await["model_version"];
    assert_eq!(champion["version"], "1");
    assert_eq!(champion["run_id"], run_id.as_str());
    let tags = &champion["tags"];
    assert_eq!(
        tag(tags, "vigie.decision_id"),
        Some(trained.decision_id.to_string().as_str())
    );
    assert_eq!(
        tag(tags, "vigie.fence"),
        Some(promoted.fence.to_string().as_str())
    );
    assert_eq!(tag(tags, "vigie.validation"), Some("passed"));
    assert_eq!(tag(tags, "vigie.sha256"), Some(trained.artifact.sha256.as_str()));
    assert_eq!(tag(tags, "vigie.trace_id"), Some(&TRACE[3..35]));
    let row = "select mlflow_run_id || ' ' || mlflow_model_uri from public.model_versions";
    assert_eq!(
        scene.text(row).await,
        Some(format!("{run_id} models:/fraud-cards/1"))
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_server_that_dies_is_waited_for() {
    let server = Server::start().await.expect("a real MLflow server");
    let settings = format!(
        "{QUICK}[mlflow]\ntracking_uri = {:?}\ntimeout = \"5s\"\n",
        server.url()
    );
    let scene = Scene::new(&settings).await;
    let replica = scene.start().await;
    server.kill().await.unwrap();
    scene.request("one", day(30)).await;
    let waiting = "select last_error from trainer_bridge.training_job where state = 'succeeded'";
    eventually("a candidate that cannot be registered yet", async || {
        scene.text(waiting).await
    })
    .await;
    server.restart().await.unwrap();
    let trained = scene.trained(1).await;

    server.kill().await.unwrap();
    scene
        .publish("validated", validated(&trained, ValidationVerdict::Passed))
        .await;
    let waiting = "select last_error from trainer_bridge.promotion where state = 'intent'";
    eventually("a promotion that cannot be carried out yet", async || {
        scene.text(waiting).await
    })
    .await;
    assert_eq!(scene.said_of(EventKind::ModelPromoted).await.len(), 0);
    server.restart().await.unwrap();
    assert_eq!(scene.promoted(1).await.version, trained.version);
    replica.stop().await;
}

/// Candidates of one model, registered without a service.
struct Shelf {
    server: &'static Server,
    registry: Mlflow,
    model: ModelName,
    experiment: String,
}

struct Candidacy {
    order: Order,
    version: ModelVersion,
    candidate: Candidate,
    bytes: Vec<u8>,
}

impl Shelf {
    async fn new(name: &str) -> Self {
        let server = shared_mlflow().await.expect("a real MLflow server");
        let experiment = format!("experiment of {name}");
        let registry = Mlflow::new(client(server), experiment.clone());
        Self {
            server,
            registry,
            model: ModelName::new(name).unwrap(),
            experiment,
        }
    }

    fn candidacy(&self, name: &str) -> Candidacy {
        let lengths = SplitLengths {
            training: chrono::TimeDelta::days(14),
            threshold: chrono::TimeDelta::days(3),
            holdout: chrono::TimeDelta::days(4),
        };
        let order = Order {
            job_id: JobId::of_key(&format!("{}/{name}", self.model)),
            model: self.model.clone(),
            decision_id: DecisionId::of_key(name),
            as_of: day(30),
            plan: Plan::new(day(30), chrono::TimeDelta::days(1), lengths, 42).unwrap(),
        };
        let bytes = format!("model {name}").into_bytes();
        let candidate = Candidate {
            algorithm: "by_hand".to_owned(),
            artifact: Artifact {
                uri: "file:///nowhere.json".to_owned(),
                sha256: scoring::digest_of(&bytes),
                bytes: bytes.len() as u64,
                format: scoring::FORMAT.to_owned(),
            },
            training_rows: 10,
            training_frauds: 1,
            operating_threshold: Share::new(0.5).unwrap(),
            seed: 42,
            stages: Stages {
                load_seconds: None,
                train_seconds: 1.0,
            },
            reported: vec![ReportedMetric {
                name: "odd {name}".to_owned(),
                slice: "threshold".to_owned(),
                value: Finite::new(0.5).unwrap(),
            }],
            notes: BTreeMap::from([("trees".to_owned(), "7".to_owned())]),
            mlflow_run_id: Some("another-run".to_owned()),
        };
        Candidacy {
            version: order.version(),
            order,
            candidate,
            bytes,
        }
    }

    async fn register(&self, candidacy: &Candidacy) -> Result<Registration, RegistryError> {
        self.registry
            .register(&Registering {
                order: &candidacy.order,
                version: &candidacy.version,
                candidate: &candidacy.candidate,
                bytes: &candidacy.bytes,
                backend: "databricks",
                correlation_id: EventId::of_key("the loop"),
                trace_id: None,
                at: day(31),
            })
            .await
    }

    async fn promote(
        &self,
        candidacy: &Candidacy,
        registration: &Registration,
        fence: i64,
    ) -> Result<(), RegistryError> {
        self.registry
            .promote(&Promoting {
                model: self.model.clone(),
                version: candidacy.version.clone(),
                registration: registration.clone(),
                decision_id: candidacy.order.decision_id,
                fence,
                artifact: candidacy.candidate.artifact.clone(),
                correlation_id: EventId::of_key("the loop"),
                trace_id: None,
                replaces: None,
            })
            .await
    }

    /// The champion's number.
    async fn champion(&self) -> Option<String> {
        let name = self.model.as_str();
        client(self.server)
            .alias(name, ALIAS)
            .await
            .unwrap()
            .map(|version| version.version)
    }

    /// How many runs and versions there are.
    async fn counts(&self) -> (usize, usize) {
        let experiment = client(self.server)
            .experiment(&self.experiment)
            .await
            .unwrap()
            .unwrap();
        let url = format!("{}/api/2.0/mlflow/runs/search", self.server.url());
        let asked = serde_json::json!({ "experiment_ids": [experiment], "max_results": 100 });
        let runs: Value = reqwest::Client::new()
            .post(url)
            .json(&asked)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let versions = plainly(
            self.server,
            &format!("model-versions/search?filter=name%3D'{}'", self.model),
        )
        .await;
        let count = |list: &Value| list.as_array().map_or(0, Vec::len);
        (count(&runs["runs"]), count(&versions["model_versions"]))
    }
}

#[tokio::test]
async fn registering_again_after_a_lost_answer_finds_the_run_and_the_version() {
    let shelf = Shelf::new("registered-twice").await;
    let candidacy = shelf.candidacy("one");
    let first = shelf.register(&candidacy).await.unwrap();
    let again = shelf.register(&candidacy).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(shelf.counts().await, (1, 1));
    // Another job is another run and another version.
    let other = shelf.register(&shelf.candidacy("two")).await.unwrap();
    assert_eq!(other.registry_version.as_deref(), Some("2"));
    assert_eq!(shelf.counts().await, (2, 2));
}

#[tokio::test]
async fn whatever_a_notebook_calls_things_they_are_logged_and_stay_text() {
    let shelf = Shelf::new("odd-names").await;
    let mut candidacy = shelf.candidacy("one");
    candidacy.candidate.algorithm = NAMES.join(" ");
    candidacy.candidate.reported = NAMES
        .iter()
        .map(|name| ReportedMetric {
            name: (*name).to_owned(),
            slice: (*name).to_owned(),
            value: Finite::new(0.5).unwrap(),
        })
        .collect();
    candidacy.candidate.notes = NAMES
        .iter()
        .map(|name| ((*name).to_owned(), (*name).to_owned()))
        .chain([
            ("..".to_owned(), "two dots".to_owned()),
            // One of ours stays ours.
            ("algorithm".to_owned(), "another".to_owned()),
        ])
        .collect();
    let registered = shelf.register(&candidacy).await.unwrap();
    let run_id = registered.run_id.expect("a run");
    let run = &plainly(shelf.server, &format!("runs/get?run_id={run_id}")).await["run"];
    assert_eq!(run["info"]["status"], "FINISHED");
    let params = &run["data"]["params"];
    let algorithm = tag(params, "algorithm").unwrap();
    assert!(
        algorithm.starts_with(NAMES[0]) && !algorithm.contains('\0'),
        "{algorithm}"
    );
    assert_eq!(tag(params, "__"), Some("two dots"));
    assert_eq!(
        tag(params, "_img_src_x_onerror_alert_1__"),
        Some("<img src=x onerror=alert(1)>")
    );
    assert_eq!(shelf.counts().await, (1, 1));
}

#[tokio::test]
async fn a_run_left_unfinished_by_a_crash_is_completed() {
    let shelf = Shelf::new("left-unfinished").await;
    let candidacy = shelf.candidacy("one");
    // As a process left it that died right after creating the run.
    let client = client(shelf.server);
    let experiment = client.experiment_or_create(&shelf.experiment).await.unwrap();
    let tags = [("vigie.job_id", candidacy.order.job_id.to_string())];
    let run = client
        .create_run(&experiment, "left", 1_000, &tags)
        .await
        .unwrap();
    let registration = shelf.register(&candidacy).await.unwrap();
    assert_eq!(registration.run_id, Some(run.info.run_id.clone()));
    let run = client.run(&run.info.run_id).await.unwrap().unwrap();
    assert_eq!(
        (run.info.status.as_str(), run.metric("training_rows")),
        ("FINISHED", Some(10.0))
    );
    assert_eq!(
        client.artifact(&run.info, "model/model.json").await.unwrap(),
        candidacy.bytes
    );
    assert_eq!(shelf.counts().await, (1, 1));
}

#[tokio::test]
async fn promoting_is_done_once_and_never_over_a_newer_fence() {
    let shelf = Shelf::new("fenced").await;
    let (one, two) = (shelf.candidacy("one"), shelf.candidacy("two"));
    let (first, second) = (
        shelf.register(&one).await.unwrap(),
        shelf.register(&two).await.unwrap(),
    );
    assert_eq!(shelf.champion().await, None);
    for _ in 0..2 {
        shelf.promote(&one, &first, 1).await.unwrap();
        assert_eq!(shelf.champion().await.as_deref(), Some("1"));
    }
    shelf.promote(&two, &second, 2).await.unwrap();
    assert_eq!(shelf.champion().await.as_deref(), Some("2"));
    // Woken late, with the fence of an older decision.
    let error = shelf.promote(&one, &first, 1).await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::Permanent(detail) if detail.contains("newer")),
        "{error}"
    );
    assert_eq!(shelf.champion().await.as_deref(), Some("2"));
    // A newer decision about the same bytes moves it back.
    shelf.promote(&one, &first, 3).await.unwrap();
    assert_eq!(shelf.champion().await.as_deref(), Some("1"));
}

#[tokio::test]
async fn bytes_swapped_on_the_tracking_server_are_refused() {
    let shelf = Shelf::new("swapped").await;
    let candidacy = shelf.candidacy("one");
    let registration = shelf.register(&candidacy).await.unwrap();
    let run = registration.run_id.clone().unwrap();
    let file = find(
        shelf.server.folder(),
        &format!("{run}/artifacts/model/model.json"),
    )
    .expect("the stored artefact");
    std::fs::write(file, b"model 0ne").unwrap();
    let error = shelf.promote(&candidacy, &registration, 1).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Permanent(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains(candidacy.candidate.artifact.sha256.as_str()),
        "{error}"
    );
    assert_eq!(shelf.champion().await, None);
}

fn find(folder: &Path, end: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            find(&path, end)
        } else {
            path.to_str()?.ends_with(end).then_some(path)
        }
    })
}

#[tokio::test]
async fn what_is_not_there_is_none_and_what_exists_is_success() {
    let server = shared_mlflow().await.expect("a real MLflow server");
    let client = client(server);
    assert_eq!(client.experiment("never made").await, Ok(None));
    let made = client.experiment_or_create("made twice").await.unwrap();
    assert_eq!(client.experiment_or_create("made twice").await, Ok(made.clone()));
    assert_eq!(client.run("0123456789abcdef0123456789abcdef").await, Ok(None));
    assert_eq!(client.run_by_tag(&made, "vigie.job_id", "nobody").await, Ok(None));
    client.ensure_model("made-twice", "x").await.unwrap();
    client.ensure_model("made-twice", "x").await.unwrap();
    assert_eq!(client.version("made-twice", "99").await, Ok(None));
    assert_eq!(client.alias("made-twice", ALIAS).await, Ok(None));
    assert_eq!(client.alias("never-made", ALIAS).await, Ok(None));
    assert_eq!(client.version_by_run("made-twice", "nobody").await, Ok(None));
    let refused = client.set_alias("made-twice", ALIAS, "99").await.unwrap_err();
    assert!(!refused.is_transient(), "{refused}");
}
