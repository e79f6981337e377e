//! What a notebook has to log, and how that becomes a candidate.
//!
//! One MLflow run, in the experiment it was told, with
//!
//! * tag `vigie.token` – the parameter `vigie_token`, by which the run is found;
//! * tag `vigie.artifact` – where the model document (`vigie.model.v1`) is: a path among the run's artefacts on a
//!   server that serves them, e.g. `model/model.json`, or a file of a volume, `/Volumes/…/model.json`;
//! * tag `vigie.sha256` – SHA-256 of the document's exact bytes, 64 lower-case hexadecimal digits;
//! * metrics `training_rows` and `training_frauds`; optionally `load_seconds`, and what the trainer says of the model,
//!   named `slice.metric`, e.g. `threshold.average_precision`.
//!
//! Nothing of it is trusted: the bytes are hashed, the document is checked, and a model that saw rows of the threshold
//! or holdout span is refused.

use std::collections::BTreeMap;

use chassis::rest::CallError;
use schemas::events::ReportedMetric;
use schemas::{Finite, Sha256Digest, Share};

use super::client::Client;
use super::states::Run;
use crate::artifacts::ArtifactStore;
use crate::job::{Candidate, Order, Stages};
use crate::registry::{mlflow_answers, mlflow_client};

/// The run's token, by which it is found.
pub const TAG_TOKEN: &str = "vigie.token";
/// Where the model document is.
pub const TAG_ARTIFACT: &str = "vigie.artifact";
/// Digest of the document's bytes.
pub const TAG_SHA256: &str = "vigie.sha256";

/// Most metrics that are passed on.
const REPORTED_MAX: usize = 50;

/// Why a successful run gave no candidate.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResultError {
    /// A server did not answer, or refused.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It may appear later.
    #[error("{0}")]
    NotThere(String),
    /// What the notebook logged cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// The artefact folder cannot be written now.
    #[error("{0}")]
    NotWritten(String),
}

pub(super) async fn read(
    client: &Client,
    tracking: &mlflow_client::Client,
    artifacts: &ArtifactStore,
    experiment: &str,
    order: &Order,
    token: &str,
    run: &Run,
) -> Result<Candidate, ResultError> {
    let missing = || {
        ResultError::NotThere(format!(
            "run {} succeeded, but no MLflow run in experiment `{experiment}` carries its tag `{TAG_TOKEN}`",
            run.run_id
        ))
    };
    let experiment_id = tracking.experiment(experiment).await?.ok_or_else(missing)?;
    let logged = tracking
        .run_by_tag(&experiment_id, TAG_TOKEN, token)
        .await?
        .ok_or_else(missing)?;
    let tag = |key: &str| {
        let absent =
            || ResultError::Unusable(format!("MLflow run `{}` has no tag `{key}`", logged.info.run_id));
        logged.tag(key).map(str::to_owned).ok_or_else(absent)
    };
    let expected = Sha256Digest::new(tag(TAG_SHA256)?)
        .map_err(|error| ResultError::Unusable(format!("tag `{TAG_SHA256}`: {error}")))?;
    let place = tag(TAG_ARTIFACT)?;
    let bytes = if place.starts_with("/Volumes/") {
        let honest = place
            .split('/')
            .skip(1)
            .all(|part| !part.is_empty() && part != "." && part != "..")
            // What is encoded already would be decoded on its way, and may climb out.
            && !place.contains(['%', '?', '#', '\\']);
        if !honest {
            return Err(ResultError::Unusable(format!(
                "tag `{TAG_ARTIFACT}` is no path of a volume: {place}"
            )));
        }
        client.volume_file(&place).await?
    } else {
        tracking.artifact(&logged.info, &place).await?
    };
    let model = scoring::load(&bytes, &expected).map_err(|error| ResultError::Unusable(error.to_string()))?;
    let document = model.artifact();
    if document.model != order.model {
        let detail = format!(
            "the artefact is of model `{}`, not `{}`",
            document.model, order.model
        );
        return Err(ResultError::Unusable(detail));
    }
    if document.training_window.end() > order.plan.training.end() {
        return Err(ResultError::Unusable(format!(
            "the model was fitted on rows until {}, which reaches into the threshold span {}: its figures would mean nothing",
            document.training_window.end(),
            order.plan.threshold
        )));
    }
    let count = |key: &str| {
        let value = logged
            .metric(key)
            .filter(|value| *value >= 0.0 && value.fract() == 0.0 && *value < 1e15);
        let absent = || {
            ResultError::Unusable(format!(
                "MLflow run `{}` has no metric `{key}` that is a count",
                logged.info.run_id
            ))
        };
        value.map(|value| value as u64).ok_or_else(absent)
    };
    let (training_rows, training_frauds) = (count("training_rows")?, count("training_frauds")?);
    let operating_threshold = Share::new(document.operating_threshold)
        .map_err(|error| ResultError::Unusable(format!("operating threshold: {error}")))?;
    let store = artifacts.clone();
    let artifact = tokio::task::spawn_blocking(move || store.put(&bytes))
        .await
        .map_err(|error| ResultError::NotWritten(format!("writing was broken off: {error}")))?
        .map_err(|error| ResultError::NotWritten(error.to_string()))?;
    let notes: BTreeMap<String, String> = document
        .notes
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .chain(
            logged
                .data
                .params
                .iter()
                .take(100)
                .map(|param| (param.key.clone(), param.value.clone())),
        )
        .collect();
    Ok(Candidate {
        algorithm: document.algorithm.chars().take(80).collect(),
        artifact,
        training_rows,
        training_frauds,
        operating_threshold,
        seed: document.seed,
        stages: Stages {
            load_seconds: logged.metric("load_seconds"),
            train_seconds: run.seconds(),
        },
        reported: reported(&logged),
        notes,
        mlflow_run_id: Some(logged.info.run_id.clone()),
    })
}

fn reported(run: &mlflow_answers::Run) -> Vec<ReportedMetric> {
    let metrics = run.data.metrics.iter();
    metrics
        .filter_map(|metric| {
            let (slice, name) = metric.key.split_once('.')?;
            let value = Finite::new(metric.value?).ok()?;
            Some(ReportedMetric {
                name: name.to_owned(),
                slice: slice.to_owned(),
                value,
            })
        })
        .take(REPORTED_MAX)
        .collect()
}
