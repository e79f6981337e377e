//! The only file with SQL.

use chassis::Tx;
use chrono::{DateTime, Utc};
use drift_stats::outcome::Outcome;
use drift_stats::profile::Profile;
use drift_stats::proportion::Rate;
use schemas::events::{DriftChecked, DriftSeverity, Metric, ModelPromoted, ScoreCounts, Verdict};
use schemas::{CheckId, ModelName, ModelVersion, Window};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::judge::{Before, Previous, Unknown, blocking};
use crate::reference::{Reference, SegmentsOf};
use crate::report::Run;
use crate::window::{Counted, StoredOutcome};

/// A champion.
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
    /// The rows of the validation by their scores, where that was counted.
    pub score_counts: Option<ScoreCounts>,
}

impl Champion {
    /// Recall and precision at validation, with what they stand on.
    pub fn validated(&self) -> (Rate, Rate) {
        let found = (self.validated_recall * self.validated_frauds as f64).round();
        let flagged = if self.validated_precision > 0.0 {
            (found / self.validated_precision).round()
        } else {
            0.0
        };
        (
            Rate {
                hits: found as u64,
                of: self.validated_frauds,
            },
            Rate {
                hits: found as u64,
                of: flagged.max(found) as u64,
            },
        )
    }
}

/// Records a promotion; a repeated one changes nothing.
pub async fn insert_champion(tx: &mut Tx, model: &ModelName, promoted: &ModelPromoted) -> anyhow::Result<()> {
    sqlx::query(
        "insert into champion (model, fence, version, promoted_as_of, training_start, training_end, \
         operating_threshold, validated_recall, validated_precision, validated_frauds, score_counts) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict do nothing",
    )
    .bind(model.as_str())
    .bind(promoted.fence.cast_signed())
    .bind(promoted.version.as_str())
    .bind(promoted.effective_from)
    .bind(promoted.training_window.start())
    .bind(promoted.training_window.end())
    .bind(promoted.operating_threshold.get())
    .bind(promoted.validated_recall.get())
    .bind(promoted.validated_precision.get())
    .bind(promoted.validated_frauds.cast_signed())
    .bind(
        promoted
            .score_counts
            .as_ref()
            .map(serde_json::to_value)
            .transpose()?,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct ChampionRow {
    version: String,
    promoted_as_of: DateTime<Utc>,
    training_start: DateTime<Utc>,
    training_end: DateTime<Utc>,
    operating_threshold: f64,
    validated_recall: f64,
    validated_precision: f64,
    validated_frauds: i64,
    score_counts: Option<Value>,
}

impl ChampionRow {
    fn read(self) -> anyhow::Result<Champion> {
        Ok(Champion {
            version: ModelVersion::new(self.version)?,
            promoted_as_of: self.promoted_as_of,
            training_window: Window::new(self.training_start, self.training_end)?,
            operating_threshold: self.operating_threshold,
            validated_recall: self.validated_recall,
            validated_precision: self.validated_precision,
            validated_frauds: self.validated_frauds.unsigned_abs(),
            score_counts: self.score_counts.map(serde_json::from_value).transpose()?,
        })
    }
}

/// The champion of a model as of an instant.
pub async fn champion(
    tx: &mut Tx,
    model: &ModelName,
    as_of: DateTime<Utc>,
) -> anyhow::Result<Option<Champion>> {
    let row: Option<ChampionRow> = sqlx::query_as(
        "select version, promoted_as_of, training_start, training_end, operating_threshold, validated_recall, \
         validated_precision, validated_frauds, score_counts from champion \
         where model = $1 and promoted_as_of <= $2 order by fence desc limit 1",
    )
    .bind(model.as_str())
    .bind(as_of)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(ChampionRow::read).transpose()
}

/// The champion that a promotion made.
pub async fn champion_of_fence(
    tx: &mut Tx,
    model: &ModelName,
    fence: u64,
) -> anyhow::Result<Option<Champion>> {
    let row: Option<ChampionRow> = sqlx::query_as(
        "select version, promoted_as_of, training_start, training_end, operating_threshold, validated_recall, \
         validated_precision, validated_frauds, score_counts from champion where model = $1 and fence = $2",
    )
    .bind(model.as_str())
    .bind(fence.cast_signed())
    .fetch_optional(&mut **tx)
    .await?;
    row.map(ChampionRow::read).transpose()
}

/// The reference of a version, once it could be built.
pub async fn reference(
    tx: &mut Tx,
    model: &ModelName,
    version: &ModelVersion,
) -> anyhow::Result<Option<Reference>> {
    let text: Option<String> =
        sqlx::query_scalar("select reference::text from reference where model = $1 and version = $2")
            .bind(model.as_str())
            .bind(version.as_str())
            .fetch_optional(&mut **tx)
            .await?;
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}

/// Keeps a reference that was built; hours counted in the bins of an earlier one are dropped.
pub async fn save_reference(
    tx: &mut Tx,
    model: &ModelName,
    version: &ModelVersion,
    reference: &Reference,
) -> anyhow::Result<()> {
    sqlx::query("delete from hour_profile where model = $1 and version = $2")
        .bind(model.as_str())
        .bind(version.as_str())
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "insert into reference (model, version, reference) values ($1, $2, $3) \
         on conflict (model, version) do update set reference = excluded.reference, built_at = clock_timestamp()",
    )
    .bind(model.as_str())
    .bind(version.as_str())
    .bind(serde_json::to_value(reference)?)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps a reference by segment.
pub async fn save_segments(
    tx: &mut Tx,
    model: &ModelName,
    version: &ModelVersion,
    segments: &[SegmentsOf],
) -> anyhow::Result<()> {
    sqlx::query(
        "update reference set reference = jsonb_set(reference, '{segments}', $3::jsonb) where model = $1 and version = $2",
    )
    .bind(model.as_str())
    .bind(version.as_str())
    // As text: a value of JSON would take many times its memory.
    .bind(serde_json::to_string(segments)?)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A span of hours of one version.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// The model.
    pub model: &'a ModelName,
    /// The version whose bins or threshold the hours are counted with.
    pub version: &'a ModelVersion,
    /// First hour.
    pub start: DateTime<Utc>,
    /// First instant after.
    pub end: DateTime<Utc>,
}

/// Profiles of the span's hours that are stored.
pub async fn profiles(tx: &mut Tx, span: Span<'_>) -> anyhow::Result<Counted<Profile>> {
    let rows: Vec<(DateTime<Utc>, String)> = sqlx::query_as(
        "select hour, profile::text from hour_profile where model = $1 and version = $2 and hour >= $3 and hour < $4",
    )
    .bind(span.model.as_str())
    .bind(span.version.as_str())
    .bind(span.start)
    .bind(span.end)
    .fetch_all(&mut **tx)
    .await?;
    parse(rows)
}

/// Outcomes of the span's hours that are stored and whose labels were known at `as_of`.
pub async fn outcomes(
    tx: &mut Tx,
    span: Span<'_>,
    as_of: DateTime<Utc>,
) -> anyhow::Result<Counted<StoredOutcome>> {
    let rows: Vec<(DateTime<Utc>, String, DateTime<Utc>, bool)> = sqlx::query_as(
        "select hour, outcome::text, known_at, is_final from hour_outcome \
         where model = $1 and version = $2 and hour >= $3 and hour < $4 and known_at <= $5",
    )
    .bind(span.model.as_str())
    .bind(span.version.as_str())
    .bind(span.start)
    .bind(span.end)
    .bind(as_of)
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|(hour, text, known_at, is_final)| {
            let stored = StoredOutcome {
                outcome: serde_json::from_str(&text)?,
                known_at,
                is_final,
            };
            Ok((hour, stored))
        })
        .collect()
}

fn parse<T: DeserializeOwned>(rows: Vec<(DateTime<Utc>, String)>) -> anyhow::Result<Counted<T>> {
    rows.into_iter()
        .map(|(hour, text)| Ok((hour, serde_json::from_str(&text)?)))
        .collect()
}

fn columns<T: Serialize>(
    counted: &[(DateTime<Utc>, &T)],
) -> anyhow::Result<(Vec<DateTime<Utc>>, Vec<String>)> {
    let texts = counted
        .iter()
        .map(|(_, counts)| serde_json::to_string(counts))
        .collect::<Result<_, _>>()?;
    Ok((counted.iter().map(|(hour, _)| *hour).collect(), texts))
}

/// Stores hours whose rows have all arrived.
pub async fn keep_profiles(
    tx: &mut Tx,
    model: &ModelName,
    version: &ModelVersion,
    counted: &[(DateTime<Utc>, &Profile)],
) -> anyhow::Result<()> {
    let (hours, texts) = columns(counted)?;
    sqlx::query(
        "insert into hour_profile (model, version, hour, profile) \
         select $1, $2, h, p::jsonb from unnest($3::timestamptz[], $4::text[]) as t (h, p) \
         on conflict (model, version, hour) do update set profile = excluded.profile",
    )
    .bind(model.as_str())
    .bind(version.as_str())
    .bind(hours)
    .bind(texts)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Stores hours with the labels that were known at `known_at`; what was known later stays.
pub async fn keep_outcomes(
    tx: &mut Tx,
    model: &ModelName,
    version: &ModelVersion,
    known_at: DateTime<Utc>,
    counted: &[(DateTime<Utc>, &Outcome)],
) -> anyhow::Result<()> {
    let (hours, texts) = columns(counted)?;
    let finals: Vec<bool> = counted
        .iter()
        .map(|(_, outcome)| outcome.labelled() == outcome.rows())
        .collect();
    // What is final holds from the first instant that knew it.
    sqlx::query(
        "insert into hour_outcome (model, version, hour, known_at, outcome, is_final) \
         select $1, $2, h, $5, o::jsonb, f from unnest($3::timestamptz[], $4::text[], $6::boolean[]) as t (h, o, f) \
         on conflict (model, version, hour) do update set \
         outcome = excluded.outcome, is_final = excluded.is_final, \
         known_at = case when hour_outcome.is_final and excluded.is_final \
                    then least(hour_outcome.known_at, excluded.known_at) else excluded.known_at end \
         where (hour_outcome.is_final and excluded.is_final \
                and (excluded.known_at < hour_outcome.known_at or excluded.outcome <> hour_outcome.outcome)) \
         or (not (hour_outcome.is_final and excluded.is_final) and excluded.known_at >= hour_outcome.known_at)",
    )
    .bind(model.as_str())
    .bind(version.as_str())
    .bind(hours)
    .bind(texts)
    .bind(known_at)
    .bind(finals)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Drops hours that no coming check looks at; a check of the past counts them again.
pub async fn forget_hours(tx: &mut Tx, model: &ModelName, before: DateTime<Utc>) -> sqlx::Result<()> {
    for query in [
        "delete from hour_profile where model = $1 and hour < $2",
        "delete from hour_outcome where model = $1 and hour < $2",
    ] {
        sqlx::query(query)
            .bind(model.as_str())
            .bind(before)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// The newest check of a model before an instant.
pub async fn previous(
    tx: &mut Tx,
    model: &ModelName,
    as_of: DateTime<Utc>,
) -> anyhow::Result<Option<Previous>> {
    type Row = (String, Option<String>, Option<DateTime<Utc>>, i32, Option<Value>);
    let row: Option<Row> = sqlx::query_as(
        "select verdict, champion, since, consecutive, case when verdict = 'unknown' then report end \
         from check_run where model = $1 and as_of < $2 order by as_of desc limit 1",
    )
    .bind(model.as_str())
    .bind(as_of)
    .fetch_optional(&mut **tx)
    .await?;
    let Some((verdict, champion, since, consecutive, report)) = row else {
        return Ok(None);
    };
    let unknown = match report.map(serde_json::from_value::<DriftChecked>).transpose()? {
        Some(report) => report.unknown_since.map(|since| Unknown {
            since,
            reasons: blocking(&report.not_measured),
        }),
        None => None,
    };
    Ok(Some(Previous {
        verdict: match verdict.as_str() {
            "stable" => Verdict::Stable,
            "drifted" => Verdict::Drifted,
            _ => Verdict::Unknown,
        },
        champion,
        since,
        consecutive: consecutive.unsigned_abs(),
        unknown,
    }))
}

/// What the newest check before an instant that could look found with a champion.
pub async fn before(
    tx: &mut Tx,
    model: &ModelName,
    champion: &ModelVersion,
    as_of: DateTime<Utc>,
) -> anyhow::Result<Before> {
    let row: Option<(Value,)> = sqlx::query_as(
        "select report from check_run where model = $1 and champion = $2 and as_of < $3 and verdict <> 'unknown' \
         order by as_of desc limit 1",
    )
    .bind(model.as_str())
    .bind(champion.as_str())
    .bind(as_of)
    .fetch_optional(&mut **tx)
    .await?;
    let Some((report,)) = row else {
        return Ok(Before::default());
    };
    Ok(Before::of(&serde_json::from_value(report)?))
}

/// The report of a check that was made before.
pub async fn report(tx: &mut Tx, check_id: CheckId) -> anyhow::Result<Option<DriftChecked>> {
    let row: Option<(Value,)> = sqlx::query_as("select report from check_run where check_id = $1")
        .bind(check_id.uuid())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|(report,)| serde_json::from_value(report)).transpose()?)
}

/// Takes back a check that could not look, so that it can be made again.
pub async fn delete_check(tx: &mut Tx, check_id: CheckId) -> sqlx::Result<()> {
    sqlx::query("delete from check_run where check_id = $1")
        .bind(check_id.uuid())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Records a check and its metrics.
pub async fn insert_check(
    tx: &mut Tx,
    model: &ModelName,
    checked: &DriftChecked,
    severity: Option<DriftSeverity>,
    run: Option<Run>,
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
    .bind(run.map(|run| run.since))
    .bind(run.map_or(0, |run| i32::try_from(run.consecutive).unwrap_or(i32::MAX)))
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
