//! The table `model_version`.

use chassis::Tx;
use chrono::{DateTime, Utc};
use schemas::events::{Artifact, ModelValidated};
use schemas::{JobId, ModelName, ModelVersion};
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use super::unreadable;
use crate::job::{Candidate, Job, Plan};
use crate::registry::Registration;

/// A version as the table has it, as far as a promotion needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredVersion {
    /// The version.
    pub version: ModelVersion,
    /// The model.
    pub model: ModelName,
    /// The job that made it.
    pub job_id: JobId,
    /// The decision it serves.
    pub decision_id: Uuid,
    /// That decision's instant.
    pub as_of: DateTime<Utc>,
    /// Order of the decision.
    pub fence: i64,
    /// The bytes that were trained.
    pub artifact: Artifact,
    /// `trained`, `staging`, `production` or `retired`.
    pub status: String,
    /// How the registry knows it.
    pub registration: Registration,
    /// Rows fitted on, spans.
    pub plan: Plan,
}

#[derive(sqlx::FromRow)]
struct Row {
    version: String,
    model: String,
    job_id: Uuid,
    decision_id: Uuid,
    as_of: DateTime<Utc>,
    fence: i64,
    artifact: Json<Artifact>,
    status: String,
    registry_version: Option<String>,
    registry_run_id: Option<String>,
    model_uri: Option<String>,
    plan: Json<Plan>,
}

impl Row {
    fn version(self) -> sqlx::Result<StoredVersion> {
        Ok(StoredVersion {
            version: ModelVersion::new(self.version)
                .map_err(|error| unreadable("model_version.version", error))?,
            model: ModelName::new(self.model).map_err(|error| unreadable("model_version.model", error))?,
            job_id: self.job_id.into(),
            decision_id: self.decision_id,
            as_of: self.as_of,
            fence: self.fence,
            artifact: self.artifact.0,
            status: self.status,
            registration: Registration {
                registry_version: self.registry_version,
                run_id: self.registry_run_id,
                model_uri: self.model_uri,
            },
            plan: self.plan.0,
        })
    }
}

/// Writes a candidate in status `trained`; the same one again changes nothing.
///
/// # Errors
/// Database errors.
pub async fn insert(
    tx: &mut Tx,
    job: &Job,
    candidate: &Candidate,
    registry: &str,
    registration: &Registration,
) -> sqlx::Result<()> {
    let order = &job.order;
    let reported: Value = candidate
        .reported
        .iter()
        .map(|metric| {
            (
                format!("{}.{}", metric.slice, metric.name),
                json!(metric.value.get()),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    let config = json!({
        "seed": candidate.seed,
        "plan": order.plan,
        "parameters": candidate.notes,
        "reported": reported,
        "load_seconds": candidate.stages.load_seconds,
        "training_run_id": candidate.mlflow_run_id,
    });
    sqlx::query(
        "insert into model_version (version, model, job_id, decision_id, as_of, fence, backend, algorithm, artifact, \
         operating_threshold, training_start, training_end, training_rows, training_frauds, training_seconds, \
         training_config, registry, registry_version, registry_run_id, model_uri) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) \
         on conflict (version) do nothing",
    )
    .bind(order.version().as_str())
    .bind(order.model.as_str())
    .bind(order.job_id.uuid())
    .bind(order.decision_id.uuid())
    .bind(order.as_of)
    .bind(job.fence)
    .bind(job.backend.as_str())
    .bind(&candidate.algorithm)
    .bind(Json(&candidate.artifact))
    .bind(candidate.operating_threshold.get())
    .bind(order.plan.training.start())
    .bind(order.plan.training.end())
    .bind(candidate.training_rows.cast_signed())
    .bind(candidate.training_frauds.cast_signed())
    .bind(candidate.stages.train_seconds)
    .bind(config)
    .bind(registry)
    .bind(&registration.registry_version)
    .bind(&registration.run_id)
    .bind(&registration.model_uri)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A version, its row locked; `None` when there is none of this name.
///
/// # Errors
/// Database errors.
pub async fn lock(tx: &mut Tx, version: &str) -> sqlx::Result<Option<StoredVersion>> {
    let row: Option<Row> = sqlx::query_as(
        "select v.version, v.model, v.job_id, v.decision_id, v.as_of, v.fence, v.artifact, v.status, \
         v.registry_version, v.registry_run_id, v.model_uri, j.plan \
         from model_version v join training_job j on j.job_id = v.job_id where v.version = $1 for update of v",
    )
    .bind(version)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Row::version).transpose()
}

/// Writes what the validation measured.
///
/// # Errors
/// Database errors.
pub async fn measured(tx: &mut Tx, validated: &ModelValidated) -> sqlx::Result<()> {
    let metric = |name: &str| {
        let found = validated.metrics.iter().find(|metric| metric.name == name);
        found.and_then(|metric| metric.value).map(schemas::Share::get)
    };
    sqlx::query(
        "update model_version set recall = $2, precision = $3, f1_score = $4, auc_roc = $5, \
         false_positive_rate = $6, changed_at = clock_timestamp() where version = $1",
    )
    .bind(validated.version.as_str())
    .bind(metric("recall"))
    .bind(metric("precision"))
    .bind(metric("f1"))
    .bind(metric("roc_auc"))
    .bind(metric("false_positive_rate"))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Moves a candidate that is to be promoted to `staging`, also one that was retired because nobody could judge it then.
///
/// # Errors
/// Database errors.
pub async fn stage(tx: &mut Tx, version: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update model_version set status = 'staging', retired_at = null, notes = null, changed_at = clock_timestamp() \
         where version = $1 and (status = 'trained' or status = 'retired' and deployed_at is null)",
    )
    .bind(version)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Retires a candidate that will not be champion; the champion itself is left alone.
///
/// # Errors
/// Database errors.
pub async fn retire(tx: &mut Tx, version: &str, at: DateTime<Utc>, notes: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update model_version set status = 'retired', retired_at = $2, notes = $3, changed_at = clock_timestamp() \
         where version = $1 and status in ('trained', 'staging')",
    )
    .bind(version)
    .bind(at)
    .bind(notes)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Makes a version the champion of its model and retires the one before.
///
/// # Errors
/// Database errors.
pub async fn enthrone(tx: &mut Tx, version: &StoredVersion) -> sqlx::Result<()> {
    sqlx::query(
        "update model_version set status = 'retired', retired_at = $3, changed_at = clock_timestamp() \
         where model = $1 and status = 'production' and version <> $2",
    )
    .bind(version.model.as_str())
    .bind(version.version.as_str())
    .bind(version.as_of)
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "update model_version set status = 'production', deployed_at = $2, retired_at = null, \
         changed_at = clock_timestamp() where version = $1",
    )
    .bind(version.version.as_str())
    .bind(version.as_of)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
