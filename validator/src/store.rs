//! The only file with SQL.

use chassis::Tx;
use schemas::ModelName;
use schemas::events::{ModelValidated, ValidationVerdict};

/// Records a validation; `false` when this version has one already: it is judged once.
pub async fn insert(tx: &mut Tx, model: &ModelName, validated: &ModelValidated) -> anyhow::Result<bool> {
    let verdict = match validated.verdict {
        ValidationVerdict::Passed => "passed",
        ValidationVerdict::Failed => "failed",
    };
    let inserted = sqlx::query(
        "insert into validation (version, model, decision_id, as_of, verdict, sha256, report) \
         values ($1, $2, $3, $4, $5, $6, $7) on conflict (version) do nothing",
    )
    .bind(validated.version.as_str())
    .bind(model.as_str())
    .bind(validated.decision_id.uuid())
    .bind(validated.as_of)
    .bind(verdict)
    .bind(validated.artifact.sha256.as_str())
    .bind(serde_json::to_value(validated)?)
    .execute(&mut **tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}
