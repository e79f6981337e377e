//! The payments' table: what a bank's system would write.

use std::fmt::Write as _;

use anyhow::Context as _;
use scoring::{Column, Model, Rows};
use sqlx::{AssertSqlSafe, PgPool};

use crate::simulator::{DayBatch, FeatureColumn, FeatureValues};

/// Where the demo's payments lie.
pub const TABLE: &str = "bank.payment";

/// Creates the table for these features, empty.
///
/// # Errors
/// Database errors.
pub async fn create(pool: &PgPool, features: &[FeatureColumn]) -> anyhow::Result<()> {
    let mut columns = String::new();
    for feature in features {
        let kind = match feature.values {
            FeatureValues::Number(_) => "double precision",
            FeatureValues::Text(_) => "text",
        };
        // Writing to a String cannot fail; names come from our own simulator or were checked by the caller.
        let _ = write!(columns, ", {} {kind}", quoted(&feature.name));
    }
    let statements = [
        "create schema if not exists bank".to_owned(),
        format!("drop table if exists {TABLE}"),
        format!(
            "create table {TABLE} (transaction_id bigint generated always as identity primary key, \
             tx_time timestamptz not null, is_fraud boolean, labelled_at timestamptz, score double precision{columns})"
        ),
        "create index payment_time on bank.payment (tx_time)".to_owned(),
    ];
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement))
            .execute(pool)
            .await
            .context("create the table of payments")?;
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Appends payments, scored by the champion in force, as a serving system would.
///
/// # Errors
/// Database errors, or a champion that cannot score these columns.
pub async fn append(
    pool: &PgPool,
    payments: &DayBatch,
    range: std::ops::Range<usize>,
    champion: Option<&Model>,
) -> anyhow::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let scores = champion
        .map(|model| score(model, payments, range.clone()))
        .transpose()?;
    let mut text = String::with_capacity(range.len() * 16 * (payments.features.len() + 4));
    for (position, row) in range.clone().enumerate() {
        let (label, known_at) = match payments.labels[row] {
            Some(fraud) => (
                if fraud { "t" } else { "f" },
                payments.label_times[row].to_rfc3339(),
            ),
            None => ("\\N", "\\N".to_owned()),
        };
        let _ = write!(
            text,
            "{}\t{label}\t{known_at}\t",
            payments.times[row].to_rfc3339()
        );
        match &scores {
            Some(scores) => {
                let _ = write!(text, "{}", scores[position]);
            }
            None => text.push_str("\\N"),
        }
        for feature in &payments.features {
            text.push('\t');
            match &feature.values {
                FeatureValues::Number(values) if values[row].is_nan() => text.push_str("\\N"),
                FeatureValues::Number(values) => {
                    let _ = write!(text, "{}", values[row]);
                }
                FeatureValues::Text(values) => match &values[row] {
                    None => text.push_str("\\N"),
                    Some(word) => escape(&mut text, word),
                },
            }
        }
        text.push('\n');
    }
    let names: Vec<String> = payments
        .features
        .iter()
        .map(|feature| quoted(&feature.name))
        .collect();
    let statement = format!(
        "copy {TABLE} (tx_time, is_fraud, labelled_at, score, {}) from stdin",
        names.join(", ")
    );
    let mut connection = pool.acquire().await?;
    let mut copy = connection
        .copy_in_raw(&statement)
        .await
        .context("append payments")?;
    copy.send(text.as_bytes()).await.context("append payments")?;
    copy.finish().await.context("append payments")?;
    Ok(())
}

/// The text format of COPY reserves backslash, tab and line ends.
fn escape(text: &mut String, word: &str) {
    for character in word.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            other => text.push(other),
        }
    }
}

fn score(model: &Model, payments: &DayBatch, range: std::ops::Range<usize>) -> anyhow::Result<Vec<f64>> {
    let mut rows = Rows::new(range.len());
    for feature in &payments.features {
        let column = match &feature.values {
            FeatureValues::Number(values) => Column::Numeric(&values[range.clone()]),
            FeatureValues::Text(values) => Column::Text(&values[range.clone()]),
        };
        rows = rows.with(&feature.name, column)?;
    }
    Ok(model.score_rows(&rows)?)
}
