//! What happened, from the record: the outboxes are the truth, not what scrolled by.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chassis::audit;
use chrono::{DateTime, Utc};
use schemas::events::{DeclineReason, DriftKind, ModelPromoted, ValidationVerdict, Verdict};
use schemas::{Event, EventKind, Received};
use serde::Serialize;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};

/// The document's first query.
pub const QUERY_DRIFT: &str = "SELECT * FROM drift_metrics ORDER BY detected_at DESC LIMIT 10";
/// The document's second query.
pub const QUERY_TRIGGERS: &str = "SELECT * FROM retraining_triggers ORDER BY triggered_at DESC LIMIT 5";

const SCHEMAS: [&str; 5] = [
    "drift_monitor",
    "retrain_decider",
    "trainer_bridge",
    "validator",
    "notifier",
];

/// One model of the story.
#[derive(Debug, Clone, Serialize)]
pub struct ModelSummary {
    /// Version.
    pub version: String,
    /// Decided as of.
    pub as_of: DateTime<Utc>,
    /// What led to it.
    pub reason: String,
    /// E.g. `random_forest`.
    pub algorithm: String,
    /// Rows fitted on.
    pub training_rows: u64,
    /// Rows judged on.
    pub holdout_rows: u64,
    /// Frauds among them.
    pub holdout_frauds: u64,
    /// Operating threshold.
    pub threshold: f64,
    /// Metrics on the holdout by name.
    pub metrics: BTreeMap<String, f64>,
    /// `promoted`, `failed validation`, …
    pub outcome: String,
    /// Fence of the promotion, if it was promoted.
    pub fence: Option<u64>,
    /// One trace id from the drift to the promotion, when there was a drift and both carry the same.
    pub trace_id: Option<String>,
}

/// One drift kind's part in the story.
#[derive(Debug, Clone, Serialize)]
pub struct DriftSummary {
    /// `data`, `target` or `concept`.
    pub kind: DriftKind,
    /// When it was found first.
    pub first: DateTime<Utc>,
    /// Drifted checks that name it, count.
    pub checks: u64,
}

/// Stable checks in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Calm {
    /// The first of them.
    pub first: DateTime<Utc>,
    /// The last of them.
    pub last: DateTime<Utc>,
    /// How many, count.
    pub checks: u64,
}

/// The longest run of stable checks; of equally long ones the first.
fn calm(mut checks: Vec<(DateTime<Utc>, Verdict)>) -> Option<Calm> {
    checks.sort_by_key(|(as_of, _)| *as_of);
    let mut longest: Option<Calm> = None;
    for run in checks.chunk_by(|(_, a), (_, b)| a == b) {
        let (Some((first, Verdict::Stable)), Some((last, _))) = (run.first(), run.last()) else {
            continue;
        };
        let found = Calm {
            first: *first,
            last: *last,
            checks: run.len() as u64,
        };
        if longest.is_none_or(|known| known.checks < found.checks) {
            longest = Some(found);
        }
    }
    longest
}

/// The whole story in numbers.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Every candidate, oldest first.
    pub models: Vec<ModelSummary>,
    /// Drift by kind.
    pub drifts: Vec<DriftSummary>,
    /// Checks by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Declined triggers by reason.
    pub declined: BTreeMap<String, u64>,
    /// Champion of the last promotion, and when.
    pub last_promotion: Option<DateTime<Utc>>,
    /// End of the replayed time.
    pub ended_at: Option<DateTime<Utc>>,
    /// Verdicts of the checks after the last promotion, count by word.
    pub after_last_promotion: BTreeMap<String, u64>,
    /// The longest run of stable checks.
    pub calm: Option<Calm>,
    /// Rows of the four tables.
    pub rows: BTreeMap<String, i64>,
    /// Answers of the document's two queries.
    pub answers: Vec<(String, Vec<Value>)>,
    /// Alerts sent and failed, count.
    pub alerts_sent: u64,
    /// Alerts that failed for good, count.
    pub alerts_failed: u64,
    /// Dead letters over all services, count.
    pub dead_letters: i64,
    /// Sealed rows on record by service, count; every chain was verified.
    pub record: BTreeMap<String, i64>,
    /// Folder of everything.
    pub folder: PathBuf,
    /// Folder of the mails.
    pub mailbox: PathBuf,
    /// Database of the demo.
    pub database_url: String,
    /// Broker of the demo.
    pub nats_url: String,
    /// The promotions as a short text that is equal for equal stories: time, outcome and metrics of each model.
    pub fingerprint: Vec<String>,
}

/// The newest promotion, from the trainer's outbox.
///
/// # Errors
/// Database errors, or a body that cannot be read.
pub async fn latest_promotion(pool: &PgPool) -> anyhow::Result<Option<ModelPromoted>> {
    let row: Option<(Vec<u8>,)> = sqlx::query_as(
        "select data from trainer_bridge.outbox where event_type = $1 order by seq desc limit 1",
    )
    .bind(EventKind::ModelPromoted.ce_type())
    .fetch_optional(pool)
    .await?;
    row.map(|(data,)| serde_json::from_slice(&data).context("read model.promoted"))
        .transpose()
}

/// Every event of every outbox, in order of recording.
async fn events(pool: &PgPool) -> anyhow::Result<Vec<Received>> {
    let parts: Vec<String> = SCHEMAS
        .iter()
        .map(|schema| format!("select created_at, seq, headers, data, subject from {schema}.outbox"))
        .collect();
    let query = format!(
        "select headers, data from ({}) as o where subject not like 'dead.%' order by created_at, seq",
        parts.join(" union all ")
    );
    let rows: Vec<(Value, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(query)).fetch_all(pool).await?;
    rows.iter()
        .map(|(headers, data)| {
            let fields = headers.as_object().context("headers are an object")?;
            let pairs = fields
                .iter()
                .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
            schemas::decode(pairs, data).context("read the outbox")
        })
        .collect()
}

/// Collects the story from the record.
///
/// # Errors
/// Database errors, or events that cannot be read.
pub async fn collect(
    pool: &PgPool,
    folder: &Path,
    database_url: &str,
    nats_url: &str,
) -> anyhow::Result<Report> {
    let events = events(pool).await?;
    let mut report = Report {
        models: Vec::new(),
        drifts: Vec::new(),
        verdicts: BTreeMap::new(),
        declined: BTreeMap::new(),
        last_promotion: None,
        ended_at: None,
        after_last_promotion: BTreeMap::new(),
        calm: None,
        rows: BTreeMap::new(),
        answers: Vec::new(),
        alerts_sent: 0,
        alerts_failed: 0,
        dead_letters: 0,
        record: record(pool).await?,
        folder: folder.to_owned(),
        mailbox: folder.join("mail"),
        database_url: database_url.to_owned(),
        nats_url: nats_url.to_owned(),
        fingerprint: Vec::new(),
    };
    for received in &events {
        note(&mut report, received, &events);
    }
    if let Some(last) = report.last_promotion {
        for received in &events {
            if let Event::DriftChecked(checked) = &received.event
                && checked.as_of > last
            {
                *report
                    .after_last_promotion
                    .entry(verdict_word(checked.verdict).to_owned())
                    .or_default() += 1;
            }
        }
    }
    let checks = events.iter().filter_map(|received| match &received.event {
        Event::DriftChecked(checked) => Some((checked.as_of, checked.verdict)),
        _ => None,
    });
    report.calm = calm(checks.collect());
    report.models.sort_by_key(|model| model.as_of);
    report.fingerprint = report
        .models
        .iter()
        .map(|model| {
            let metric = |name| model.metrics.get(name).copied().unwrap_or(f64::NAN);
            format!(
                "{} {} {} recall {:.4} precision {:.4} threshold {:.4}",
                model.as_of.format("%Y-%m-%dT%H:%MZ"),
                model.algorithm,
                model.outcome,
                metric("recall"),
                metric("precision"),
                model.threshold
            )
        })
        .collect();
    for table in [
        "drift_metrics",
        "retraining_triggers",
        "model_versions",
        "airflow_task_metrics",
    ] {
        let (count,): (i64,) = sqlx::query_as(AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(pool)
            .await?;
        report.rows.insert(table.to_owned(), count);
    }
    for query in [QUERY_DRIFT, QUERY_TRIGGERS] {
        let rows: Vec<(Value,)> = sqlx::query_as(AssertSqlSafe(format!(
            "select row_to_json(t)::jsonb from ({query}) as t"
        )))
        .fetch_all(pool)
        .await
        .with_context(|| format!("answer {query}"))?;
        report
            .answers
            .push((query.to_owned(), rows.into_iter().map(|(row,)| row).collect()));
    }
    let parts: Vec<String> = SCHEMAS
        .iter()
        .map(|schema| format!("select count(*) as n from {schema}.dead_letter"))
        .collect();
    let (dead,): (i64,) = sqlx::query_as(AssertSqlSafe(format!(
        "select sum(n)::bigint from ({}) as d",
        parts.join(" union all ")
    )))
    .fetch_one(pool)
    .await?;
    report.dead_letters = dead;
    Ok(report)
}

/// How much each service has on record.
async fn record(pool: &PgPool) -> anyhow::Result<BTreeMap<String, i64>> {
    let mut record = BTreeMap::new();
    for log in audit::logs(pool).await? {
        match audit::verify(pool, &log.schema, &[]).await? {
            audit::Verdict::Intact { links, .. } => record.insert(log.service, links),
            audit::Verdict::Broken { link, why, .. } => {
                bail!("the record of {} is broken: link {link} {why}", log.service)
            }
        };
    }
    Ok(record)
}

fn note(report: &mut Report, received: &Received, events: &[Received]) {
    match &received.event {
        Event::DriftChecked(checked) => {
            *report
                .verdicts
                .entry(verdict_word(checked.verdict).to_owned())
                .or_default() += 1;
            report.ended_at = report.ended_at.max(Some(checked.as_of));
        }
        Event::DriftDetected(drift) => {
            for kind in &drift.kinds {
                match report.drifts.iter_mut().find(|known| known.kind == *kind) {
                    Some(known) => known.checks += 1,
                    None => report.drifts.push(DriftSummary {
                        kind: *kind,
                        first: drift.as_of,
                        checks: 1,
                    }),
                }
            }
        }
        Event::RetrainDeclined(declined) => {
            *report
                .declined
                .entry(declined_word(declined.reason).to_owned())
                .or_default() += 1;
        }
        Event::ModelTrained(trained) => {
            let reason = events.iter().find_map(|other| match &other.event {
                Event::RetrainRequested(requested) if requested.decision_id == trained.decision_id => {
                    Some(requested.reason.clone())
                }
                _ => None,
            });
            report.models.push(ModelSummary {
                version: trained.version.to_string(),
                as_of: trained.as_of,
                reason: reason.unwrap_or_default(),
                algorithm: trained.algorithm.clone(),
                training_rows: trained.training_rows,
                holdout_rows: 0,
                holdout_frauds: 0,
                threshold: trained.operating_threshold.get(),
                metrics: BTreeMap::new(),
                outcome: "trained".to_owned(),
                fence: None,
                trace_id: None,
            });
        }
        Event::ModelValidated(validated) => {
            if let Some(model) = report
                .models
                .iter_mut()
                .find(|model| model.version == validated.version.as_str())
            {
                model.holdout_rows = validated.rows;
                model.holdout_frauds = validated.frauds;
                model.metrics = validated
                    .metrics
                    .iter()
                    .filter_map(|metric| Some((metric.name.clone(), metric.value?.get())))
                    .collect();
                model.outcome = match validated.verdict {
                    ValidationVerdict::Passed => "passed validation".to_owned(),
                    ValidationVerdict::Failed => "failed validation".to_owned(),
                };
            }
        }
        Event::ModelPromoted(promoted) => {
            report.last_promotion = report.last_promotion.max(Some(promoted.as_of));
            let promoted_trace = received.attributes.trace.trace_id();
            let drift_trace = events.iter().find_map(|other| match &other.event {
                Event::DriftDetected(_)
                    if other.attributes.correlation_id == received.attributes.correlation_id =>
                {
                    other.attributes.trace.trace_id()
                }
                _ => None,
            });
            if let Some(model) = report
                .models
                .iter_mut()
                .find(|model| model.version == promoted.version.as_str())
            {
                "promoted".clone_into(&mut model.outcome);
                model.fence = Some(promoted.fence);
                model.trace_id = drift_trace
                    .filter(|trace| Some(*trace) == promoted_trace)
                    .map(str::to_owned);
            }
        }
        Event::AlertSent(_) => report.alerts_sent += 1,
        Event::AlertFailed(_) => report.alerts_failed += 1,
        Event::DriftCheckRequested(_)
        | Event::RetrainAsked(_)
        | Event::RetrainRequested(_)
        | Event::TrainingStarted(_)
        | Event::TrainingFailed(_)
        | Event::PromotionRefused(_) => {}
    }
}

const fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Stable => "stable",
        Verdict::Drifted => "drifted",
        Verdict::Unknown => "unknown",
    }
}

const fn declined_word(reason: DeclineReason) -> &'static str {
    reason.as_str()
}

impl Report {
    /// The summary as text.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\nSummary\n=======");
        let _ = writeln!(text, "checks: {}", counts(&self.verdicts));
        for drift in &self.drifts {
            let _ = writeln!(
                text,
                "{} drift: first found {}, in {} checks",
                drift.kind.metric_type().trim_end_matches("_drift"),
                drift.first.format("%Y-%m-%d %H:%M"),
                drift.checks
            );
        }
        let _ = writeln!(text, "declined triggers: {}", counts(&self.declined));
        let _ = writeln!(
            text,
            "alerts: {} sent, {} failed; dead letters: {}\non record: {} sealed rows in {} event logs, every chain intact",
            self.alerts_sent,
            self.alerts_failed,
            self.dead_letters,
            self.record.values().sum::<i64>(),
            self.record.len()
        );
        self.describe_models(&mut text);
        if let (Some(last), Some(end)) = (self.last_promotion, self.ended_at) {
            let _ = writeln!(
                text,
                "\nAfter the last promotion ({}), until {}: {}",
                last.format("%Y-%m-%d %H:%M"),
                end.format("%Y-%m-%d %H:%M"),
                counts(&self.after_last_promotion)
            );
        }
        if let Some(calm) = self.calm {
            let _ = writeln!(
                text,
                "Longest calm: {} stable checks in a row, {} to {}",
                calm.checks,
                calm.first.format("%Y-%m-%d %H:%M"),
                calm.last.format("%Y-%m-%d %H:%M")
            );
        }
        self.describe_tables(&mut text);
        text
    }

    fn describe_models(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\n{:<27} {:<17} {:<20} {:>7} {:>9} {:>7} {:>7} {:>9}  outcome",
            "model", "as of", "algorithm", "recall", "precision", "F1", "AP", "threshold"
        );
        for model in &self.models {
            let metric = |name: &str| {
                model
                    .metrics
                    .get(name)
                    .map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
            };
            let _ = writeln!(
                text,
                "{:<27} {:<17} {:<20} {:>7} {:>9} {:>7} {:>7} {:>9.3}  {}",
                model.version,
                model.as_of.format("%Y-%m-%d %H:%M"),
                model.algorithm,
                metric("recall"),
                metric("precision"),
                metric("f1"),
                metric("average_precision"),
                model.threshold,
                model.outcome
            );
        }
        for model in &self.models {
            if let Some(trace) = &model.trace_id {
                let _ = writeln!(
                    text,
                    "one trace from drift.detected to model.promoted of {}: {trace}",
                    model.version
                );
            }
        }
    }

    fn describe_tables(&self, text: &mut String) {
        let _ = writeln!(text, "\nThe four tables: {}", counts(&self.rows));
        for (query, rows) in &self.answers {
            let _ = writeln!(text, "\n{query};");
            text.push_str(&grid(rows));
        }
        let _ = writeln!(text, "\nMails, one file each:   {}", self.mailbox.display());
        let _ = writeln!(
            text,
            "Models:                 {}",
            self.folder.join("artifacts").display()
        );
        let _ = writeln!(text, "Settings and logs:      {}", self.folder.display());
    }
}

fn counts<N: std::fmt::Display>(map: &BTreeMap<String, N>) -> String {
    if map.is_empty() {
        return "none".to_owned();
    }
    map.iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Columns people look at first; the others are there too, and too many for a terminal.
const SHOWN: [&str; 15] = [
    "detected_at",
    "metric_type",
    "metric_name",
    "feature_name",
    "metric_value",
    "threshold",
    "threshold_exceeded",
    "severity",
    "triggered_at",
    "trigger_kind",
    "drift_type",
    "drift_severity",
    "status",
    "declined_reason",
    "new_model_version",
];

fn grid(rows: &[Value]) -> String {
    let Some(Value::Object(first)) = rows.first() else {
        return "(no rows)\n".to_owned();
    };
    let columns: Vec<&str> = SHOWN
        .iter()
        .copied()
        .filter(|column| first.contains_key(*column))
        .collect();
    let cell = |row: &Value, column: &str| match &row[column] {
        Value::Null => String::new(),
        Value::String(text) => text.chars().take(30).collect(),
        Value::Number(number) if number.is_f64() => format!("{:.4}", number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    };
    let width = |column: &str| {
        rows.iter()
            .map(|row| cell(row, column).chars().count())
            .max()
            .unwrap_or(0)
            .max(column.len())
    };
    let mut text = String::new();
    let line = |cells: Vec<String>| cells.join(" | ").trim_end().to_owned() + "\n";
    text.push_str(&line(
        columns
            .iter()
            .map(|column| format!("{column:<0$}", width(column)))
            .collect(),
    ));
    text.push_str(&line(
        columns.iter().map(|column| "-".repeat(width(column))).collect(),
    ));
    for row in rows {
        text.push_str(&line(
            columns
                .iter()
                .map(|column| format!("{:<1$}", cell(row, column), width(column)))
                .collect(),
        ));
    }
    let hidden = first.len() - columns.len();
    let _ = writeln!(text, "({} rows; {hidden} more columns)", rows.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_calm_is_of_stable_checks_only_whatever_their_order() {
        let at = |hour: i64| DateTime::<Utc>::UNIX_EPOCH + chrono::TimeDelta::hours(hour);
        let checks = |words: &str| -> Vec<(DateTime<Utc>, Verdict)> {
            (0..)
                .zip(words.chars())
                .map(|(hour, word)| {
                    let verdict = match word {
                        's' => Verdict::Stable,
                        'd' => Verdict::Drifted,
                        _ => Verdict::Unknown,
                    };
                    (at(hour), verdict)
                })
                .collect()
        };
        for (words, expected) in [
            ("", None),
            ("ddu", None),
            ("s", Some((0, 0, 1))),
            ("ssdsssuss", Some((3, 5, 3))),
            ("ssdddddss", Some((0, 1, 2))),
        ] {
            let expected = expected.map(|(first, last, checks)| Calm {
                first: at(first),
                last: at(last),
                checks,
            });
            let mut shuffled = checks(words);
            shuffled.reverse();
            assert_eq!(calm(shuffled), expected, "{words}");
        }
    }
}
