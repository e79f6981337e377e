//! The only file with SQL.

use chassis::Tx;
use chrono::{DateTime, Utc};
use drift_stats::profile::{Outcome, Profile};
use drift_stats::proportion::Rate;
use schemas::events::{DriftChecked, DriftSeverity, Metric, ModelPromoted, Verdict};
use schemas::{CheckId, ModelName, ModelVersion, Window};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::judge::Previous;
use crate::reference::Reference;
use crate::window::Counted;

/// A champion, and the reference that checks against it use.
#[derive(Debug, Clone, PartialEq)]
pub struct Champion {
    /// Its version.
    pub version: ModelVersion,
    /// Checks as of this instant or later compare with it.
    pub promoted_as_of: DateTime<Utc>,
    /// Rows the reference is taken from.
    pub training_window: Window,
    /// A row is flagged when its score is at least this.
    pub operating_threshold: f64,
    /// Recall at validation.
    pub validated_recall: f64,
    /// Precision at validation.
    pub validated_precision: f64,
    /// Frauds that recall stands on.
    pub validated_frauds: u64,
    /// The reference, once it could be built.
    pub reference: Option<Reference>,
}

impl Champion {
    /// Recall and precision at validation, with what they stand on.
    pub fn validated(&self) -> (Rate, Rate) {
        let found = (self.validated_recall * self.validated_frauds as f64).round();
        let flagged = if self.validated_precision > 0.0 { (found / self.validated_precision).round() } else { 0.0 };
        (
            Rate { hits: found as u64, of: self.validated_frauds },
            Rate { hits: found as u64, of: flagged.max(found) as u64 },
        )
    }
}

/// Records a promotion; a repeated one changes nothing.
pub async fn insert_champion(tx: &mut Tx, model: &ModelName, promoted: &ModelPromoted) -> sqlx::Result<()> {
    sqlx::query(
        "insert into champion (model, version, fence, promoted_as_of, training_start, training_end, \
         operating_threshold, validated_recall, validated_precision, validated_frauds) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict (model, version) do update set \
         fence = excluded.fence, promoted_as_of = excluded.promoted_as_of where champion.fence < excluded.fence",
    )
    .bind(model.as_str())
    .bind(promoted.version.as_str())
    .bind(promoted.fence.cast_signed())
    .bind(promoted.as_of)
    .bind(promoted.training_window.start())
    .bind(promoted.training_window.end())
    .bind(promoted.operating_threshold.get())
    .bind(promoted.validated_recall.get())
    .bind(promoted.validated_precision.get())
    .bind(promoted.validated_frauds.cast_signed())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

type ChampionRow = (String, DateTime<Utc>, DateTime<Utc>, DateTime<Utc>, f64, f64, f64, i64, Option<Value>);

/// The champion of a model as of an instant.
pub async fn champion(tx: &mut Tx, model: &ModelName, as_of: DateTime<Utc>) -> anyhow::Result<Option<Champion>> {
    let row: Option<ChampionRow> = sqlx::query_as(
        "select version, promoted_as_of, training_start, training_end, operating_threshold, validated_recall, \
         validated_precision, validated_frauds, reference from champion \
         where model = $1 and promoted_as_of <= $2 order by promoted_as_of desc, fence desc limit 1",
    )
    .bind(model.as_str())
    .bind(as_of)
    .fetch_optional(&mut **tx)
    .await?;
    let Some((version, promoted_as_of, start, end, threshold, recall, precision, frauds, reference)) = row else {
        return Ok(None);
    };
    Ok(Some(Champion {
        version: ModelVersion::new(version)?,
        promoted_as_of,
        training_window: Window::new(start, end)?,
        operating_threshold: threshold,
        validated_recall: recall,
        validated_precision: precision,
        validated_frauds: frauds.unsigned_abs(),
        reference: reference.map(serde_json::from_value).transpose()?,
    }))
}

/// Keeps a reference that was built.
pub async fn save_reference(
    tx: &mut Tx,
    model: &ModelName,
    version: &ModelVersion,
    reference: &Reference,
) -> anyhow::Result<()> {
    sqlx::query("update champion set reference = $3 where model = $1 and version = $2")
        .bind(model.as_str())
        .bind(version.as_str())
        .bind(serde_json::to_value(reference)?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Stored hours of one kind.
#[derive(Debug, Clone, Copy)]
pub enum Hours {
    /// Features.
    Profiles,
    /// Scores and labels.
    Outcomes,
}

/// Profiles of hours `[start, end)` that are stored.
pub async fn profiles(
    tx: &mut Tx,
    model: &ModelName,
    version: &ModelVersion,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> anyhow::Result<Counted<Profile>> {
    stored(tx, Hours::Profiles, model, version, start, end).await
}

/// Outcomes of hours `[start, end)` that are stored.
pub async fn outcomes(
    tx: &mut Tx,
    model: &ModelName,
    version: &ModelVersion,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> anyhow::Result<Counted<Outcome>> {
    stored(tx, Hours::Outcomes, model, version, start, end).await
}

async fn stored<T: DeserializeOwned>(
    tx: &mut Tx,
    hours: Hours,
    model: &ModelName,
    version: &ModelVersion,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> anyhow::Result<Counted<T>> {
    let query = match hours {
        Hours::Profiles => {
            "select hour, profile::text from hour_profile where model = $1 and version = $2 and hour >= $3 and hour < $4"
        }
        Hours::Outcomes => {
            "select hour, outcome::text from hour_outcome where model = $1 and version = $2 and hour >= $3 and hour < $4"
        }
    };
    let rows: Vec<(DateTime<Utc>, String)> = sqlx::query_as(query)
        .bind(model.as_str())
        .bind(version.as_str())
        .bind(start)
        .bind(end)
        .fetch_all(&mut **tx)
        .await?;
    rows.into_iter().map(|(hour, text)| Ok((hour, serde_json::from_str(&text)?))).collect()
}

/// Stores hours that will not change any more.
pub async fn keep_hours<T: Serialize>(
    tx: &mut Tx,
    hours: Hours,
    model: &ModelName,
    version: &ModelVersion,
    counted: &[(DateTime<Utc>, &T)],
) -> anyhow::Result<()> {
    if counted.is_empty() {
        return Ok(());
    }
    let query = match hours {
        Hours::Profiles => {
            "insert into hour_profile (model, version, hour, profile) \
             select $1, $2, h, p::jsonb from unnest($3::timestamptz[], $4::text[]) as t (h, p) on conflict do nothing"
        }
        Hours::Outcomes => {
            "insert into hour_outcome (model, version, hour, outcome) \
             select $1, $2, h, p::jsonb from unnest($3::timestamptz[], $4::text[]) as t (h, p) on conflict do nothing"
        }
    };
    let instants: Vec<DateTime<Utc>> = counted.iter().map(|(hour, _)| *hour).collect();
    let texts: Vec<String> =
        counted.iter().map(|(_, counts)| serde_json::to_string(counts)).collect::<Result<_, _>>()?;
    sqlx::query(query)
        .bind(model.as_str())
        .bind(version.as_str())
        .bind(instants)
        .bind(texts)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The newest check of a model before an instant.
pub async fn previous(tx: &mut Tx, model: &ModelName, as_of: DateTime<Utc>) -> sqlx::Result<Option<Previous>> {
    let row: Option<(String, Option<String>, Option<DateTime<Utc>>, i32)> = sqlx::query_as(
        "select verdict, champion, since, consecutive from check_run where model = $1 and as_of < $2 \
         order by as_of desc limit 1",
    )
    .bind(model.as_str())
    .bind(as_of)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|(verdict, champion, since, consecutive)| Previous {
        verdict: match verdict.as_str() {
            "stable" => Verdict::Stable,
            "drifted" => Verdict::Drifted,
            _ => Verdict::Unknown,
        },
        champion,
        since,
        consecutive: consecutive.unsigned_abs(),
    }))
}

/// The report of a check that was made before.
pub async fn report(tx: &mut Tx, check_id: CheckId) -> anyhow::Result<Option<DriftChecked>> {
    let row: Option<(Value,)> = sqlx::query_as("select report from check_run where check_id = $1")
        .bind(check_id.uuid())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|(report,)| serde_json::from_value(report)).transpose()?)
}

/// Records a check and its metrics.
pub async fn insert_check(
    tx: &mut Tx,
    model: &ModelName,
    checked: &DriftChecked,
    severity: Option<DriftSeverity>,
    run: Option<(DateTime<Utc>, u32)>,
    word_of: impl Fn(&Metric) -> &'static str,
) -> anyhow::Result<()> {
    let verdict = match checked.verdict {
        Verdict::Stable => "stable",
        Verdict::Drifted => "drifted",
        Verdict::Unknown => "unknown",
    };
    sqlx::query(
        "insert into check_run (check_id, model, as_of, champion, verdict, severity, since, consecutive, report) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(checked.check_id.uuid())
    .bind(model.as_str())
    .bind(checked.as_of)
    .bind(checked.champion.as_ref().map(ModelVersion::as_str))
    .bind(verdict)
    .bind(severity.map(DriftSeverity::as_str))
    .bind(run.map(|(since, _)| since))
    .bind(run.map_or(0, |(_, length)| i32::try_from(length).unwrap_or(i32::MAX)))
    .bind(serde_json::to_value(checked)?)
    .execute(&mut **tx)
    .await?;
    insert_metrics(tx, model, checked, word_of).await
}

async fn insert_metrics(
    tx: &mut Tx,
    model: &ModelName,
    checked: &DriftChecked,
    word_of: impl Fn(&Metric) -> &'static str,
) -> anyhow::Result<()> {
    let metrics = &checked.metrics;
    let types: Vec<&str> = metrics.iter().map(|metric| metric.kind.metric_type()).collect();
    let names: Vec<String> = metrics
        .iter()
        .map(|metric| match &metric.feature {
            Some(feature) => format!("{}_{feature}", metric.name),
            None => metric.name.clone(),
        })
        .collect();
    let values: Vec<f64> = metrics.iter().map(|metric| metric.value.get()).collect();
    let thresholds: Vec<f64> = metrics.iter().map(|metric| metric.threshold.get()).collect();
    let exceeded: Vec<bool> = metrics.iter().map(|metric| metric.exceeded).collect();
    let words: Vec<&str> = metrics.iter().map(word_of).collect();
    let features: Vec<Option<&str>> = metrics.iter().map(|metric| metric.feature.as_deref()).collect();
    let details: Vec<Value> = metrics
        .iter()
        .map(|metric| {
            json!({
                "noise": metric.noise,
                "rows": checked.rows,
                "window": checked.window,
                "champion": checked.champion,
            })
        })
        .collect();
    sqlx::query(
        "insert into drift_metric (check_id, model, detected_at, metric_type, metric_name, metric_value, threshold, \
         threshold_exceeded, severity, feature_name, details) \
         select $1, $2, $3, t, n, v, l, e, s, f, d from unnest($4::text[], $5::text[], $6::float8[], $7::float8[], \
         $8::boolean[], $9::text[], $10::text[], $11::jsonb[]) as m (t, n, v, l, e, s, f, d)",
    )
    .bind(checked.check_id.uuid())
    .bind(model.as_str())
    .bind(checked.as_of)
    .bind(types)
    .bind(names)
    .bind(values)
    .bind(thresholds)
    .bind(exceeded)
    .bind(words)
    .bind(features)
    .bind(details)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Serialises checks of one model within this transaction, so that two instants do not count the same hours.
pub async fn lock(tx: &mut Tx, model: &ModelName) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('drift-monitor/' || $1, 0))")
        .bind(model.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Whether the database answers at all: tells a source that is away from a monitor that is.
pub async fn answers(pool: &PgPool) -> bool {
    sqlx::query("select 1").execute(pool).await.is_ok()
}
