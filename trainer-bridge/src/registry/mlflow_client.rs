//! The calls of MLflow's REST interface that training and registration need.
//!
//! Branches on `error_code` and status, as MLflow's own client does: creating what exists is answered with 400
//! `RESOURCE_ALREADY_EXISTS`, an unknown alias with 400 `INVALID_PARAMETER_VALUE`, most other absences with 404
//! `RESOURCE_DOES_NOT_EXIST`. Malformed requests are read as empty ones, so nothing relies on the server to check.

use std::time::Duration;

use chassis::rest::{CallError, Credentials, Endpoint};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::mlflow_answers::{Run, RunInfo, Version};

const API: &str = "/api/2.0/mlflow";
const ARTIFACTS: &str = "/api/2.0/mlflow-artifacts/artifacts";
/// Longest value of a parameter, in characters.
const PARAMETER_MAX: usize = 6_000;
/// Longest value of a run's tag, in characters.
const TAG_MAX: usize = 8_000;

/// An MLflow tracking server.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
}

#[derive(Deserialize)]
struct ExperimentAnswer {
    experiment: Experiment,
}

#[derive(Deserialize)]
struct Experiment {
    experiment_id: String,
    #[serde(default)]
    lifecycle_stage: String,
}

#[derive(Deserialize)]
struct CreatedExperiment {
    experiment_id: String,
}

#[derive(Deserialize)]
struct RunAnswer {
    run: Run,
}

#[derive(Default, Deserialize)]
struct Runs {
    #[serde(default)]
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct VersionAnswer {
    model_version: Version,
}

#[derive(Default, Deserialize)]
struct Versions {
    #[serde(default)]
    model_versions: Vec<Version>,
    #[serde(default)]
    next_page_token: String,
}

#[derive(Deserialize)]
struct Anything {}

impl Client {
    /// A client for the server at `base`.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(base: Url, credentials: Credentials, timeout: Duration) -> Result<Self, reqwest::Error> {
        Ok(Self {
            endpoint: Endpoint::new(base, credentials, timeout)?,
        })
    }

    /// Where the server is.
    pub fn base(&self) -> &Url {
        self.endpoint.base()
    }

    /// The experiment of a name; `None` when there is none.
    ///
    /// # Errors
    /// [`CallError`]; an experiment that was deleted is refused, because runs cannot be added to it.
    pub async fn experiment(&self, name: &str) -> Result<Option<String>, CallError> {
        let path = format!("{API}/experiments/get-by-name");
        let found: Result<ExperimentAnswer, _> = self.endpoint.get(&path, &[("experiment_name", name)]).await;
        match found {
            Ok(answer) if answer.experiment.lifecycle_stage == "deleted" => Err(CallError::Refused {
                what: format!("use of experiment `{name}`"),
                status: 200,
                code: "INVALID_STATE".to_owned(),
                message: "it was deleted; restore it or set `mlflow.experiment` to another name".to_owned(),
            }),
            Ok(answer) => Ok(Some(answer.experiment.experiment_id)),
            Err(error) if error.has_code("RESOURCE_DOES_NOT_EXIST") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The experiment of a name, created if it is not there.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn experiment_or_create(&self, name: &str) -> Result<String, CallError> {
        if let Some(id) = self.experiment(name).await? {
            return Ok(id);
        }
        let body = json!({ "name": name, "tags": [{ "key": "vigie.owner", "value": "trainer-bridge" }] });
        let created: Result<CreatedExperiment, _> = self
            .endpoint
            .post(&format!("{API}/experiments/create"), &body)
            .await;
        match created {
            Ok(created) => Ok(created.experiment_id),
            // Another replica was faster.
            Err(error) if error.has_code("RESOURCE_ALREADY_EXISTS") => {
                self.experiment(name).await?.ok_or_else(|| {
                    CallError::transient(format!("experiment `{name}` exists but cannot be found yet"))
                })
            }
            Err(error) => Err(error),
        }
    }

    /// The oldest run of an experiment that carries a tag; how a run is found again after a crash. The value
    /// must not hold a quote.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn run_by_tag(
        &self,
        experiment: &str,
        key: &str,
        value: &str,
    ) -> Result<Option<Run>, CallError> {
        let body = json!({
            "experiment_ids": [experiment],
            "filter": format!("tags.`{key}` = '{}'", value.replace(['\'', '`'], "")),
            "order_by": ["attributes.start_time ASC"],
            "max_results": 1,
        });
        let found: Runs = self.endpoint.post(&format!("{API}/runs/search"), &body).await?;
        Ok(found.runs.into_iter().next())
    }

    /// Begins a run. Not idempotent: search by tag first.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn create_run(
        &self,
        experiment: &str,
        name: &str,
        start_ms: i64,
        tags: &[(&str, String)],
    ) -> Result<Run, CallError> {
        let body = json!({
            "experiment_id": experiment, "run_name": name, "start_time": start_ms, "tags": pairs(tags, TAG_MAX),
        });
        let answer: RunAnswer = self.endpoint.post(&format!("{API}/runs/create"), &body).await?;
        Ok(answer.run)
    }

    /// A run; `None` when there is none.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn run(&self, run_id: &str) -> Result<Option<Run>, CallError> {
        let answer: Result<RunAnswer, _> = self
            .endpoint
            .get(&format!("{API}/runs/get"), &[("run_id", run_id)])
            .await;
        match answer {
            Ok(answer) => Ok(Some(answer.run)),
            Err(error) if error.has_code("RESOURCE_DOES_NOT_EXIST") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Logs metrics, parameters and tags; the same values again change nothing.
    ///
    /// # Errors
    /// [`CallError`]; a parameter that was logged with another value is refused.
    pub async fn log_batch(
        &self,
        run_id: &str,
        at_ms: i64,
        metrics: &[(String, f64)],
        params: &[(&str, String)],
        tags: &[(&str, String)],
    ) -> Result<(), CallError> {
        let metrics: Vec<Value> = metrics
            .iter()
            .filter(|(_, value)| value.is_finite())
            .map(|(key, value)| json!({ "key": key, "value": value, "timestamp": at_ms, "step": 0 }))
            .collect();
        let body = json!({
            "run_id": run_id, "metrics": metrics, "params": pairs(params, PARAMETER_MAX), "tags": pairs(tags, TAG_MAX),
        });
        let _: Anything = self
            .endpoint
            .post(&format!("{API}/runs/log-batch"), &body)
            .await?;
        Ok(())
    }

    /// Ends a run.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn finish_run(&self, run_id: &str, end_ms: i64) -> Result<(), CallError> {
        let body = json!({ "run_id": run_id, "status": "FINISHED", "end_time": end_ms });
        let _: Anything = self.endpoint.post(&format!("{API}/runs/update"), &body).await?;
        Ok(())
    }

    /// Puts a file into a run's artefacts through the server. `path` is ours: letters, digits, `.`, `_`, `/`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn put_artifact(&self, run: &RunInfo, path: &str, bytes: Vec<u8>) -> Result<(), CallError> {
        self.endpoint.put_bytes(&artifact_path(run, path)?, bytes).await
    }

    /// The bytes of a file in a run's artefacts, through the server.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn artifact(&self, run: &RunInfo, path: &str) -> Result<Vec<u8>, CallError> {
        self.endpoint
            .get_bytes(&artifact_path(run, path)?, scoring::ARTIFACT_BYTES_MAX)
            .await
    }

    /// Creates the registered model if it is not there.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ensure_model(&self, name: &str, description: &str) -> Result<(), CallError> {
        let body = json!({ "name": name, "description": description });
        let created: Result<Anything, _> = self
            .endpoint
            .post(&format!("{API}/registered-models/create"), &body)
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(error) if error.has_code("RESOURCE_ALREADY_EXISTS") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The version of a model that came from a run; newest versions are asked for first.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn version_by_run(&self, name: &str, run_id: &str) -> Result<Option<Version>, CallError> {
        let filter = format!("name = '{name}' and run_id = '{run_id}'");
        let mut page = String::new();
        // A run has one version, or a few after lost answers; the bound only guards against a server gone mad.
        for _ in 0..10 {
            let mut query = vec![("filter", filter.as_str()), ("max_results", "100")];
            if !page.is_empty() {
                query.push(("page_token", page.as_str()));
            }
            let found: Versions = self
                .endpoint
                .get(&format!("{API}/model-versions/search"), &query)
                .await?;
            let of_run = found
                .model_versions
                .into_iter()
                .filter(|version| version.run_id == run_id);
            // The lowest number: the same one however often it is asked.
            let oldest = of_run.min_by_key(|version| version.version.parse::<u64>().unwrap_or(u64::MAX));
            if oldest.is_some() || found.next_page_token.is_empty() {
                return Ok(oldest);
            }
            page = found.next_page_token;
        }
        Ok(None)
    }

    /// Makes a version from a run's artefacts. Not idempotent: search first.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn create_version(
        &self,
        name: &str,
        run_id: &str,
        source: &str,
        tags: &[(&str, String)],
    ) -> Result<Version, CallError> {
        let body = json!({ "name": name, "run_id": run_id, "source": source, "tags": pairs(tags, TAG_MAX) });
        let answer: VersionAnswer = self
            .endpoint
            .post(&format!("{API}/model-versions/create"), &body)
            .await?;
        Ok(answer.model_version)
    }

    /// A version; `None` when there is none.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn version(&self, name: &str, version: &str) -> Result<Option<Version>, CallError> {
        let query = [("name", name), ("version", version)];
        let answer: Result<VersionAnswer, _> = self
            .endpoint
            .get(&format!("{API}/model-versions/get"), &query)
            .await;
        match answer {
            Ok(answer) => Ok(Some(answer.model_version)),
            Err(error) if error.has_code("RESOURCE_DOES_NOT_EXIST") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets a tag of a version.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn tag_version(
        &self,
        name: &str,
        version: &str,
        key: &str,
        value: &str,
    ) -> Result<(), CallError> {
        let body = json!({ "name": name, "version": version, "key": key, "value": value });
        let _: Anything = self
            .endpoint
            .post(&format!("{API}/model-versions/set-tag"), &body)
            .await?;
        Ok(())
    }

    /// Points an alias at a version; the last writer wins.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn set_alias(&self, name: &str, alias: &str, version: &str) -> Result<(), CallError> {
        let body = json!({ "name": name, "alias": alias, "version": version });
        let _: Anything = self
            .endpoint
            .post(&format!("{API}/registered-models/alias"), &body)
            .await?;
        Ok(())
    }

    /// The version an alias points at; `None` when the alias or the model is not there.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn alias(&self, name: &str, alias: &str) -> Result<Option<Version>, CallError> {
        let query = [("name", name), ("alias", alias)];
        let answer: Result<VersionAnswer, _> = self
            .endpoint
            .get(&format!("{API}/registered-models/alias"), &query)
            .await;
        match answer {
            Ok(answer) => Ok(Some(answer.model_version)),
            Err(error) if error.has_code("RESOURCE_DOES_NOT_EXIST") => Ok(None),
            Err(CallError::Refused {
                status: 400,
                code,
                message,
                ..
            }) if code == "INVALID_PARAMETER_VALUE" && message.contains("not found") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Where the server hands out and takes in a run's file. Only artefacts that the server itself serves can be
/// reached: those of object stores need the store's own credentials.
fn artifact_path(run: &RunInfo, path: &str) -> Result<String, CallError> {
    let refuse = |message: String| CallError::Refused {
        what: format!("artefact `{path}` of run `{}`", run.run_id),
        status: 0,
        code: "UNREACHABLE_ARTIFACT".to_owned(),
        message,
    };
    let plain = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        text.chars().all(allowed)
            && text
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != "..")
    };
    if !plain(path) {
        return Err(refuse(
            "the path must be made of letters, digits, `.`, `_`, `-` and `/`, without `..`".to_owned(),
        ));
    }
    let served =
        run.artifact_uri
            .strip_prefix("mlflow-artifacts:")
            .map(|rest| match rest.strip_prefix("//") {
                Some(with_host) => with_host.split_once('/').map_or("", |(_, root)| root),
                None => rest.trim_start_matches('/'),
            });
    match served.map(|root| root.trim_end_matches('/')) {
        Some(root) if plain(root) => Ok(format!("{ARTIFACTS}/{root}/{path}")),
        _ => Err(refuse(format!(
            "its artefacts are at `{}`; only a server that serves artefacts itself (`mlflow-artifacts:`) is supported",
            run.artifact_uri
        ))),
    }
}

fn pairs(entries: &[(&str, String)], characters_max: usize) -> Vec<Value> {
    let short = |value: &String| value.chars().take(characters_max).collect::<String>();
    entries
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": short(value) }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(artifact_uri: &str) -> RunInfo {
        RunInfo {
            run_id: "r".to_owned(),
            experiment_id: "1".to_owned(),
            status: String::new(),
            artifact_uri: artifact_uri.to_owned(),
        }
    }

    #[test]
    fn served_artefacts_are_reached_and_nothing_else() {
        let good = "/api/2.0/mlflow-artifacts/artifacts/1/abc/artifacts/model/model.json";
        for uri in [
            "mlflow-artifacts:/1/abc/artifacts",
            "mlflow-artifacts://host:5000/1/abc/artifacts/",
        ] {
            assert_eq!(
                artifact_path(&run(uri), "model/model.json").as_deref(),
                Ok(good),
                "{uri}"
            );
        }
        for uri in [
            "s3://bucket/1",
            "file:///etc",
            "mlflow-artifacts:",
            "mlflow-artifacts:/../x",
            "",
        ] {
            assert!(artifact_path(&run(uri), "model.json").is_err(), "{uri}");
        }
        for path in [
            "../x",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "",
            "a b",
            "a?b",
            "a%2e%2e",
        ] {
            assert!(
                artifact_path(&run("mlflow-artifacts:/1/abc/artifacts"), path).is_err(),
                "{path}"
            );
        }
    }
}
