//! The MLflow registry: experiment, run, artefact, registered model, version, alias `champion`, and tags that lead
//! back to the decision.
//!
//! MLflow creates a new run and a new version at every request, so both are searched for by tag first. Its alias is
//! last-writer-wins without compare-and-set; PostgreSQL fences (`store`), and here the alias is read before it is set
//! and read back after.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chassis::text::storable;
use chassis::trial;
use schemas::ModelName;
use sha2::{Digest, Sha256};

use super::mlflow_answers::{Run, Version};
use super::mlflow_client::Client;
use super::{Answer, Promoting, Registering, Registration, Registry, RegistryError};

/// The alias of the champion.
pub const ALIAS: &str = "champion";
/// Run and version tag: the job, by which both are found again.
const TAG_JOB: &str = "vigie.job_id";
const TAG_DECISION: &str = "vigie.decision_id";
const TAG_CORRELATION: &str = "vigie.correlation_id";
const TAG_TRACE: &str = "vigie.trace_id";
const TAG_SHA256: &str = "vigie.sha256";
const TAG_VERSION: &str = "vigie.version";
const TAG_FENCE: &str = "vigie.fence";
const TAG_VALIDATION: &str = "vigie.validation";
/// Where the model lies among the run's artefacts.
const MODEL_FOLDER: &str = "model";
const MODEL_FILE: &str = "model/model.json";

/// The MLflow registry.
#[derive(Debug)]
pub struct Mlflow {
    client: Client,
    /// Experiment that runs are logged to.
    experiment: String,
}

impl Mlflow {
    /// A registry on a server.
    pub const fn new(client: Client, experiment: String) -> Self {
        Self { client, experiment }
    }

    async fn enrol(&self, what: &Registering<'_>) -> Result<Registration, RegistryError> {
        let run = self.run(what).await?;
        let name = registered_name(&what.order.model);
        self.client
            .ensure_model(&name, &format!("Model `{}`, kept by Vigie.", what.order.model))
            .await?;
        let version = match self.client.version_by_run(&name, &run.info.run_id).await? {
            Some(version) => version,
            None => self.create_version(&name, &run, what).await?,
        };
        match version.status.as_str() {
            "READY" | "" => {}
            "FAILED_REGISTRATION" => {
                let detail = format!(
                    "MLflow failed to register {name} {}: {}",
                    version.version, version.status_message
                );
                return Err(RegistryError::Permanent(detail));
            }
            other => {
                let detail = format!(
                    "version {} of `{name}` is {other}, waiting for READY",
                    version.version
                );
                return Err(RegistryError::transient(detail));
            }
        }
        Ok(Registration {
            model_uri: Some(format!("models:/{name}/{}", version.version)),
            registry_version: Some(version.version),
            run_id: Some(run.info.run_id),
        })
    }

    /// The tracking run of the job, complete: found by its tag or created, then logged and ended.
    async fn run(&self, what: &Registering<'_>) -> Result<Run, RegistryError> {
        let experiment = self.client.experiment_or_create(&self.experiment).await?;
        let job = what.order.job_id.to_string();
        let at = what.at.timestamp_millis();
        let run = match self.client.run_by_tag(&experiment, TAG_JOB, &job).await? {
            Some(run) if run.info.status == "FINISHED" => return Ok(run),
            Some(run) => run,
            None => {
                let run = self
                    .client
                    .create_run(&experiment, what.version.as_str(), at, &tags_of(what))
                    .await?;
                trial::boundary("mlflow.run_created");
                run
            }
        };
        let candidate = what.candidate;
        let mut metrics: Vec<(String, f64)> = candidate
            .reported
            .iter()
            .take(900)
            .map(|metric| (metric_key(&metric.slice, &metric.name), metric.value.get()))
            .collect();
        metrics.extend([
            ("training_rows".to_owned(), candidate.training_rows as f64),
            ("training_frauds".to_owned(), candidate.training_frauds as f64),
            ("train_seconds".to_owned(), candidate.stages.train_seconds),
            (
                "operating_threshold".to_owned(),
                candidate.operating_threshold.get(),
            ),
        ]);
        let plan = &what.order.plan;
        let mut params = BTreeMap::from([
            (
                "algorithm".to_owned(),
                storable(&candidate.algorithm).into_owned(),
            ),
            ("backend".to_owned(), what.backend.to_owned()),
            ("seed".to_owned(), candidate.seed.to_string()),
            ("as_of".to_owned(), what.order.as_of.to_rfc3339()),
            ("training_window".to_owned(), plan.training.to_string()),
            ("threshold_window".to_owned(), plan.threshold.to_string()),
            ("holdout_window".to_owned(), plan.holdout.to_string()),
        ]);
        // MLflow takes 1,000 metrics and 100 parameters a call; the notes of a foreign notebook may be many, and may be called anything.
        for (name, value) in candidate.notes.iter().take(80) {
            params
                .entry(plain_key(name))
                .or_insert_with(|| storable(value).into_owned());
        }
        let params: Vec<(&str, String)> = params
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone()))
            .collect();
        self.client
            .log_batch(&run.info.run_id, at, &metrics, &params, &[])
            .await?;
        self.client
            .put_artifact(&run.info, MODEL_FILE, what.bytes.to_vec())
            .await?;
        self.client
            .put_artifact(
                &run.info,
                "model/MLmodel",
                model_description(&run, what).into_bytes(),
            )
            .await?;
        trial::boundary("mlflow.artifact_put");
        self.client.finish_run(&run.info.run_id, at).await?;
        trial::boundary("mlflow.run_finished");
        Ok(run)
    }

    async fn create_version(
        &self,
        name: &str,
        run: &Run,
        what: &Registering<'_>,
    ) -> Result<Version, RegistryError> {
        let source = format!("runs:/{}/{MODEL_FOLDER}", run.info.run_id);
        let mut tags = tags_of(what);
        tags.push((TAG_VALIDATION, "pending".to_owned()));
        let version = self
            .client
            .create_version(name, &run.info.run_id, &source, &tags)
            .await?;
        trial::boundary("mlflow.version_created");
        Ok(version)
    }

    async fn enthrone(&self, promotion: &Promoting) -> Result<(), RegistryError> {
        let name = registered_name(&promotion.model);
        let Some(number) = &promotion.registration.registry_version else {
            let detail = format!("version `{}` was never registered in MLflow", promotion.version);
            return Err(RegistryError::Permanent(detail));
        };
        let current = self.client.alias(&name, ALIAS).await?;
        if let Some(current) = &current {
            if is_ours(current, number, promotion) {
                return Ok(());
            }
            let its_fence = current.tag(TAG_FENCE).and_then(|fence| fence.parse::<i64>().ok());
            if its_fence.is_some_and(|fence| fence > promotion.fence) {
                return Err(RegistryError::Permanent(format!(
                    "MLflow's champion of `{name}` is version {} with fence {}, newer than {}",
                    current.version,
                    its_fence.unwrap_or_default(),
                    promotion.fence
                )));
            }
            if promotion
                .replaces
                .as_ref()
                .is_some_and(|replaces| *replaces != current.version)
            {
                tracing::warn!(
                    model.name = %promotion.model,
                    "MLflow's champion of `{name}` is version {}, but Vigie promoted {}: someone moved the alias by hand",
                    current.version,
                    promotion.replaces.as_deref().unwrap_or("none"),
                );
            }
        }
        self.verify(&name, number, promotion).await?;
        // Tags first: an alias that points at the version without them would lead back to nothing.
        let fence = promotion.fence.to_string();
        let tags = [
            (TAG_VALIDATION, "passed".to_owned()),
            (TAG_DECISION, promotion.decision_id.to_string()),
            (TAG_CORRELATION, promotion.correlation_id.to_string()),
            (TAG_TRACE, promotion.trace_id.clone().unwrap_or_default()),
            (TAG_FENCE, fence),
        ];
        for (key, value) in &tags {
            self.client.tag_version(&name, number, key, value).await?;
        }
        trial::boundary("mlflow.tagged");
        self.client.set_alias(&name, ALIAS, number).await?;
        trial::boundary("mlflow.alias_set");
        match self.client.alias(&name, ALIAS).await? {
            Some(champion) if is_ours(&champion, number, promotion) => Ok(()),
            Some(champion) => Err(RegistryError::transient(format!(
                "alias `{ALIAS}` of `{name}` reads back as version {}, not {number}",
                champion.version
            ))),
            None => Err(RegistryError::transient(format!(
                "alias `{ALIAS}` of `{name}` reads back as nothing"
            ))),
        }
    }

    /// What MLflow would hand out must be the bytes that were validated.
    async fn verify(&self, name: &str, number: &str, promotion: &Promoting) -> Result<(), RegistryError> {
        let Some(version) = self.client.version(name, number).await? else {
            return Err(RegistryError::Permanent(format!(
                "MLflow has no version {number} of `{name}` any more"
            )));
        };
        let Some(run) = self.client.run(&version.run_id).await? else {
            return Err(RegistryError::Permanent(format!(
                "MLflow has no run `{}` any more",
                version.run_id
            )));
        };
        let bytes = self.client.artifact(&run.info, MODEL_FILE).await?;
        let found = scoring::digest_of(&bytes);
        if found == promotion.artifact.sha256 {
            Ok(())
        } else {
            Err(RegistryError::Permanent(format!(
                "version {number} of `{name}` holds bytes with sha256 `{found}`, validated were `{}`",
                promotion.artifact.sha256
            )))
        }
    }
}

impl Registry for Mlflow {
    fn name(&self) -> &'static str {
        "mlflow"
    }

    fn register<'a>(&'a self, candidate: &'a Registering<'a>) -> Answer<'a, Registration> {
        Box::pin(self.enrol(candidate))
    }

    fn promote<'a>(&'a self, promotion: &'a Promoting) -> Answer<'a, ()> {
        Box::pin(self.enthrone(promotion))
    }

    fn champion<'a>(&'a self, model: &'a ModelName) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            let found = self.client.alias(&registered_name(model), ALIAS).await?;
            Ok(found.map(|version| version.version))
        })
    }
}

fn is_ours(champion: &Version, number: &str, promotion: &Promoting) -> bool {
    champion.version == number
        && champion.tag(TAG_DECISION) == Some(promotion.decision_id.to_string().as_str())
        && champion.tag(TAG_FENCE) == Some(promotion.fence.to_string().as_str())
}

fn tags_of(what: &Registering<'_>) -> Vec<(&'static str, String)> {
    let mut tags = vec![
        (TAG_JOB, what.order.job_id.to_string()),
        (TAG_DECISION, what.order.decision_id.to_string()),
        (TAG_CORRELATION, what.correlation_id.to_string()),
        (TAG_SHA256, what.candidate.artifact.sha256.to_string()),
        (TAG_VERSION, what.version.to_string()),
        ("vigie.model", what.order.model.to_string()),
    ];
    if let Some(trace) = what.trace_id {
        tags.push((TAG_TRACE, trace.to_owned()));
    }
    if let Some(run) = &what.candidate.mlflow_run_id {
        tags.push(("vigie.training_run_id", run.clone()));
    }
    tags
}

/// MLflow's names of metrics and parameters take letters, digits and a few signs, and do not begin with a dot: no way up a folder.
fn plain_key(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "_-.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .take(250)
        .collect();
    let rest = plain.trim_start_matches('.');
    let dots = plain.len() - rest.len();
    if plain.is_empty() {
        "_".to_owned()
    } else {
        "_".repeat(dots) + rest
    }
}

fn metric_key(slice: &str, name: &str) -> String {
    plain_key(&format!("{slice}.{name}"))
}

/// A registered model's name: ours when it is plain, else a plain form with a digest, so that two names stay two.
fn registered_name(model: &ModelName) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-. ".contains(c);
    let name = model.as_str();
    if name.chars().all(allowed) {
        return name.to_owned();
    }
    let plain: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(100)
        .collect();
    let digest = hex::encode(Sha256::digest(name.as_bytes()));
    format!("{plain}-{}", &digest[..12])
}

/// The file `MLmodel`, from which MLflow's tools learn what the folder holds.
fn model_description(run: &Run, what: &Registering<'_>) -> String {
    let mut text = String::new();
    let quoted = |value: &str| serde_json::Value::String(value.to_owned()).to_string();
    let lines = [
        ("artifact_path", quoted(MODEL_FOLDER)),
        ("run_id", quoted(&run.info.run_id)),
        (
            "utc_time_created",
            quoted(&what.at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()),
        ),
        ("model_size_bytes", what.bytes.len().to_string()),
    ];
    for (key, value) in lines {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{key}: {value}");
    }
    let flavour = [
        ("data", quoted("model.json")),
        ("format", quoted(scoring::FORMAT)),
        ("algorithm", quoted(&what.candidate.algorithm)),
        ("sha256", quoted(what.candidate.artifact.sha256.as_str())),
    ];
    text.push_str("flavors:\n  vigie:\n");
    for (key, value) in flavour {
        let _ = writeln!(text, "    {key}: {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_become_plain_and_stay_different() {
        let plain = |name: &str| registered_name(&ModelName::new(name).unwrap());
        assert_eq!(plain("fraud-cards"), "fraud-cards");
        let (one, two) = (plain("a/b"), plain("a:b"));
        assert_ne!(one, two);
        for name in [one, two, plain("'; drop table x; --"), plain("é")] {
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-. ".contains(c)),
                "{name}"
            );
        }
    }

    #[test]
    fn metric_names_hold_nothing_that_mlflow_refuses() {
        assert_eq!(
            metric_key("threshold", "average_precision"),
            "threshold.average_precision"
        );
        assert_eq!(metric_key("a b", "{x}"), "a_b._x_");
        assert_eq!(metric_key("", ""), "_");
        for (name, key) in [
            ("trees", "trees"),
            ("", "_"),
            ("..", "__"),
            ("../../etc/passwd", "___.._etc_passwd"),
            ("漢", "_"),
        ] {
            assert_eq!(plain_key(name), key);
        }
        assert_eq!(plain_key(&"x".repeat(1_000)).len(), 250);
    }
}
