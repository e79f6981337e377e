//! An MLflow tracking server and registry, as far as Vigie uses them, that fails when the test wants it to and keeps a ledger.
//!
//! Answers are those of MLflow 3: error codes, 404 `RESOURCE_DOES_NOT_EXIST`, versions that are numbers in texts, an alias that
//! the last writer wins. For what MLflow itself does there is [`super::mlflow`], the real one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::http::{HttpServer, Wire};

const API: &str = "/api/2.0/mlflow/";
const ARTIFACTS: &str = "/api/2.0/mlflow-artifacts/artifacts/";

/// What goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 500 `INTERNAL_ERROR`; not executed.
    ServerError,
    /// 429 with `Retry-After: 1`; not executed.
    TooManyRequests,
    /// 200 with a page for people, as a login proxy answers; not executed.
    Page,
    /// Executed, and then the connection is closed without an answer.
    AnswerLost,
    /// Executed, and answered with 500.
    DoneThenError,
    /// The connection is closed; not executed.
    RequestLost,
    /// Executed after this long.
    Slow(Duration),
}

/// A pointing of an alias at a version, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AliasSet {
    /// The registered model.
    pub model: String,
    /// The version's number.
    pub version: u64,
    /// The version's tags at that moment.
    pub tags: BTreeMap<String, String>,
}

/// A version of a registered model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VersionRecord {
    /// Its number.
    pub number: u64,
    /// The run it came from.
    pub run_id: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct RunRecord {
    /// Its id.
    pub run_id: String,
    /// Its experiment's id.
    pub experiment: String,
    /// `RUNNING` or `FINISHED`.
    pub status: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its metrics.
    pub metrics: BTreeMap<String, f64>,
}

#[derive(Debug, Default)]
struct Book {
    experiments: Vec<String>,
    runs: Vec<RunRecord>,
    files: HashMap<String, Vec<u8>>,
    models: BTreeMap<String, Vec<VersionRecord>>,
    aliases: BTreeMap<(String, String), u64>,
    alias_sets: Vec<AliasSet>,
    faults: VecDeque<Fault>,
    forgotten: usize,
    /// Taggings in which a version was not known.
    forgot: usize,
    calls: u64,
}

#[derive(Debug, Default)]
struct Shared(Mutex<Book>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running stub. Dropping it ends it.
#[derive(Debug)]
pub struct Tracking {
    server: HttpServer,
    shared: Arc<Shared>,
}

impl Tracking {
    /// Starts on a free loopback port, on the current tokio runtime.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let server = HttpServer::start(Router::new().fallback(take).with_state(Arc::clone(&shared))).await?;
        Ok(Self { server, shared })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// What goes wrong with the next calls, whichever they are, in order.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.lock().faults.extend(faults);
    }

    /// Does not know the version in the next so many taggings, as if somebody had deleted it.
    pub fn forget_at_tags(&self, times: usize) {
        self.shared.lock().forgotten = times;
    }

    /// Taggings in which a version was not known because of [`Self::forget_at_tags`], count.
    pub fn forgot(&self) -> usize {
        self.shared.lock().forgot
    }

    /// Forgets faults that no call has met; says how many.
    pub fn heal(&self) -> usize {
        let mut book = self.shared.lock();
        let left = book.faults.len();
        book.faults.clear();
        left
    }

    /// Calls that arrived.
    pub fn calls(&self) -> u64 {
        self.shared.lock().calls
    }

    /// Every pointing of an alias, in order.
    pub fn alias_sets(&self) -> Vec<AliasSet> {
        self.shared.lock().alias_sets.clone()
    }

    /// The version that an alias of a model points at.
    pub fn alias(&self, model: &str, alias: &str) -> Option<u64> {
        let key = (model.to_owned(), alias.to_owned());
        self.shared.lock().aliases.get(&key).copied()
    }

    /// The versions of a registered model.
    pub fn versions(&self, model: &str) -> Vec<VersionRecord> {
        self.shared.lock().models.get(model).cloned().unwrap_or_default()
    }

    /// Every run.
    pub fn runs(&self) -> Vec<RunRecord> {
        self.shared.lock().runs.clone()
    }

    /// Points an alias as a person would, past everybody.
    pub fn set_alias_by_hand(&self, model: &str, alias: &str, version: u64) {
        let key = (model.to_owned(), alias.to_owned());
        self.shared.lock().aliases.insert(key, version);
    }

    /// Logs a finished run, as a notebook does; once per value of the tag `once`.
    pub fn log_run(
        &self,
        experiment: &str,
        once: (&str, &str),
        tags: &[(&str, String)],
        metrics: &[(&str, f64)],
        file: (&str, Vec<u8>),
    ) {
        let mut book = self.shared.lock();
        let experiment = book.experiment(experiment);
        if book.run_with_tag(&experiment, once.0, once.1).is_some() {
            return;
        }
        let mut run = book.new_run(experiment);
        "FINISHED".clone_into(&mut run.status);
        run.tags.insert(once.0.to_owned(), once.1.to_owned());
        run.tags
            .extend(tags.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        run.metrics
            .extend(metrics.iter().map(|(key, value)| ((*key).to_owned(), *value)));
        let path = format!("{}/{}", root_of(&run), file.0);
        book.files.insert(path, file.1);
        book.runs.push(run);
    }
}

fn root_of(run: &RunRecord) -> String {
    format!("{}/{}/artifacts", run.experiment, run.run_id)
}

impl Book {
    fn experiment(&mut self, name: &str) -> String {
        let known = self.experiments.iter().position(|known| known == name);
        let index = known.unwrap_or_else(|| {
            self.experiments.push(name.to_owned());
            self.experiments.len() - 1
        });
        (index + 1).to_string()
    }

    fn new_run(&self, experiment: String) -> RunRecord {
        RunRecord {
            run_id: format!("{:032x}", self.runs.len() + 1),
            experiment,
            status: "RUNNING".to_owned(),
            ..RunRecord::default()
        }
    }

    fn run_with_tag(&self, experiment: &str, key: &str, value: &str) -> Option<&RunRecord> {
        self.runs
            .iter()
            .find(|run| run.experiment == experiment && run.tags.get(key).is_some_and(|found| found == value))
    }

    fn run_mut(&mut self, id: &Value) -> Result<&mut RunRecord, Refusal> {
        let id = id.as_str().unwrap_or_default();
        self.runs
            .iter_mut()
            .find(|run| run.run_id == id)
            .ok_or_else(|| missing(&format!("Run with id={id} not found")))
    }
}

async fn take(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    method: Method,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    let fault = {
        let mut book = shared.lock();
        book.calls += 1;
        book.faults.pop_front()
    };
    match fault {
        Some(Fault::ServerError) => return broken().answer(),
        Some(Fault::TooManyRequests) => {
            let text = json!({ "error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Too many requests." });
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], Json(text)).into_response();
        }
        Some(Fault::Page) => {
            let page = "<!doctype html><title>Sign in</title>";
            return (StatusCode::OK, [("content-type", "text/html")], page).into_response();
        }
        Some(Fault::RequestLost) => {
            wire.cut();
            return StatusCode::OK.into_response();
        }
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        Some(Fault::AnswerLost | Fault::DoneThenError) | None => {}
    }
    let answer =
        serve(&mut shared.lock(), &method, uri.path(), &query, &body).unwrap_or_else(Refusal::answer);
    match fault {
        Some(Fault::AnswerLost) => wire.cut(),
        Some(Fault::DoneThenError) => return broken().answer(),
        _ => {}
    }
    answer
}

/// What is not done, in MLflow's words.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn answer(self) -> Response {
        let text = json!({ "error_code": self.code, "message": self.message });
        (self.status, Json(text)).into_response()
    }
}

fn broken() -> Refusal {
    Refusal {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        code: "INTERNAL_ERROR",
        message: "Internal server error".to_owned(),
    }
}

fn missing(message: &str) -> Refusal {
    Refusal {
        status: StatusCode::NOT_FOUND,
        code: "RESOURCE_DOES_NOT_EXIST",
        message: message.to_owned(),
    }
}

fn exists(message: &str) -> Refusal {
    Refusal {
        status: StatusCode::BAD_REQUEST,
        code: "RESOURCE_ALREADY_EXISTS",
        message: message.to_owned(),
    }
}

/// `tags.`KEY` = 'VALUE'`, the only filter of runs that is asked for.
fn tag_filter(filter: &str) -> Option<(&str, &str)> {
    let (key, value) = filter.strip_prefix("tags.`")?.split_once("` = '")?;
    Some((key, value.strip_suffix('\'')?))
}

fn pairs(value: &Value) -> impl Iterator<Item = (String, String)> + '_ {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(move |pair| Some((text(&pair["key"])?, text(&pair["value"]).unwrap_or_default())))
}

fn tags_of(tags: &BTreeMap<String, String>) -> Value {
    tags.iter()
        .map(|(key, value)| json!({ "key": key, "value": value }))
        .collect()
}

fn run_of(run: &RunRecord) -> Value {
    let metrics: Value = run
        .metrics
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": value, "timestamp": 1, "step": 0 }))
        .collect();
    json!({
        "info": {
            "run_id": run.run_id, "experiment_id": run.experiment, "status": run.status,
            "artifact_uri": format!("mlflow-artifacts:/{}", root_of(run)),
        },
        "data": { "tags": tags_of(&run.tags), "metrics": metrics, "params": [] },
    })
}

fn version_of(model: &str, version: &VersionRecord) -> Value {
    json!({
        "name": model, "version": version.number.to_string(), "status": "READY", "run_id": version.run_id,
        "tags": tags_of(&version.tags),
    })
}

fn serve(
    book: &mut Book,
    method: &Method,
    path: &str,
    query: &HashMap<String, String>,
    body: &Bytes,
) -> Result<Response, Refusal> {
    if let Some(file) = path.strip_prefix(ARTIFACTS) {
        return Ok(match *method {
            Method::PUT => {
                book.files.insert(file.to_owned(), body.to_vec());
                Json(json!({})).into_response()
            }
            _ => match book.files.get(file) {
                Some(bytes) => bytes.clone().into_response(),
                None => missing("no such artifact").answer(),
            },
        });
    }
    let asked: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let given = |key: &str| query.get(key).map_or("", String::as_str);
    let text = |key: &str| asked[key].as_str().unwrap_or_default().to_owned();
    let answer = match (method.as_str(), path.strip_prefix(API).unwrap_or_default()) {
        ("GET", "experiments/get-by-name") => {
            let known = book
                .experiments
                .iter()
                .position(|name| name == given("experiment_name"));
            let index = known.ok_or_else(|| missing("Could not find experiment"))?;
            json!({ "experiment": { "experiment_id": (index + 1).to_string(), "lifecycle_stage": "active" } })
        }
        ("POST", "experiments/create") => {
            let name = text("name");
            if book.experiments.contains(&name) {
                return Err(exists("Experiment already exists."));
            }
            json!({ "experiment_id": book.experiment(&name) })
        }
        ("POST", "runs/search") => {
            let filter = text("filter");
            let experiment = asked["experiment_ids"][0].as_str().unwrap_or_default();
            let found =
                tag_filter(&filter).and_then(|(key, value)| book.run_with_tag(experiment, key, value));
            json!({ "runs": found.map(run_of).into_iter().collect::<Vec<Value>>() })
        }
        ("POST", "runs/create") => {
            let mut run = book.new_run(text("experiment_id"));
            run.tags.extend(pairs(&asked["tags"]));
            let answer = json!({ "run": run_of(&run) });
            book.runs.push(run);
            answer
        }
        ("GET", "runs/get") => json!({ "run": run_of(book.run_mut(&json!(given("run_id")))?) }),
        ("POST", "runs/log-batch") => {
            let run = book.run_mut(&asked["run_id"])?;
            run.tags.extend(pairs(&asked["tags"]));
            let metrics = asked["metrics"].as_array().into_iter().flatten();
            run.metrics.extend(
                metrics.filter_map(|metric| {
                    Some((metric["key"].as_str()?.to_owned(), metric["value"].as_f64()?))
                }),
            );
            json!({})
        }
        ("POST", "runs/update") => {
            book.run_mut(&asked["run_id"])?.status = text("status");
            json!({})
        }
        (method, call) => return registry(book, method, call, query, &asked),
    };
    Ok(Json(answer).into_response())
}

fn registry(
    book: &mut Book,
    method: &str,
    call: &str,
    query: &HashMap<String, String>,
    asked: &Value,
) -> Result<Response, Refusal> {
    let text = |key: &str| {
        let given = query.get(key).map(String::as_str);
        given
            .or_else(|| asked[key].as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let (name, number) = (text("name"), text("version").parse::<u64>().unwrap_or(0));
    let no_version = || {
        missing(&format!(
            "Model Version (name={name}, version={number}) not found"
        ))
    };
    let answer = match (method, call) {
        ("POST", "registered-models/create") => {
            if book.models.contains_key(&name) {
                return Err(exists("Registered Model already exists."));
            }
            book.models.insert(name.clone(), Vec::new());
            json!({ "registered_model": { "name": name } })
        }
        ("POST", "model-versions/create") => {
            let versions = book
                .models
                .get_mut(&name)
                .ok_or_else(|| missing("Registered Model not found"))?;
            let version = VersionRecord {
                number: versions.len() as u64 + 1,
                run_id: text("run_id"),
                tags: pairs(&asked["tags"]).collect(),
            };
            let answer = json!({ "model_version": version_of(&name, &version) });
            versions.push(version);
            answer
        }
        ("GET", "model-versions/search") => {
            let filter = text("filter");
            let quoted: Vec<&str> = filter.split('\'').collect();
            let (Some(name), Some(run)) = (quoted.get(1), quoted.get(3)) else {
                return Err(broken());
            };
            let of_run = book.models.get(*name).into_iter().flatten();
            let found: Vec<Value> = of_run
                .filter(|version| version.run_id == *run)
                .map(|version| version_of(name, version))
                .collect();
            json!({ "model_versions": found })
        }
        ("GET", "model-versions/get") => {
            let versions = book.models.get(&name).into_iter().flatten();
            let found = versions.into_iter().find(|version| version.number == number);
            json!({ "model_version": version_of(&name, found.ok_or_else(no_version)?) })
        }
        ("POST", "model-versions/set-tag") if book.forgotten > 0 => {
            book.forgotten -= 1;
            book.forgot += 1;
            return Err(no_version());
        }
        ("POST", "model-versions/set-tag") => {
            let versions = book.models.get_mut(&name).into_iter().flatten();
            let found = versions.into_iter().find(|version| version.number == number);
            found
                .ok_or_else(no_version)?
                .tags
                .insert(text("key"), text("value"));
            json!({})
        }
        ("POST", "registered-models/alias") => {
            let versions = book.models.get(&name).into_iter().flatten();
            let found = versions.into_iter().find(|version| version.number == number);
            let tags = found.ok_or_else(no_version)?.tags.clone();
            book.aliases.insert((name.clone(), text("alias")), number);
            book.alias_sets.push(AliasSet {
                model: name,
                version: number,
                tags,
            });
            json!({})
        }
        ("GET", "registered-models/alias") => {
            let pointed = book.aliases.get(&(name.clone(), text("alias"))).copied();
            let versions = book.models.get(&name).into_iter().flatten();
            let found = versions
                .into_iter()
                .find(|version| Some(version.number) == pointed);
            let absent = || Refusal {
                status: StatusCode::BAD_REQUEST,
                code: "INVALID_PARAMETER_VALUE",
                message: "Registered model alias champion not found.".to_owned(),
            };
            json!({ "model_version": version_of(&name, found.ok_or_else(absent)?) })
        }
        _ => return Err(missing(&format!("no such call: {method} {call}"))),
    };
    Ok(Json(answer).into_response())
}
