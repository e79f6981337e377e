//! Record batches of Arrow, as Parquet files and warehouses give them, become a [`Batch`].
//!
//! Columns are found by the names that the settings give them.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};

use crate::batch::{Batch, CategoryBuilder, Column, Label};
use crate::catalogue::FeatureKind;
use crate::error::SourceError;
use crate::rows::{KnownAt, bad_label, bad_score, label_of, score_of};
use crate::source::Plan;

/// Timestamps of any unit as microseconds since 1970 UTC.
pub fn micros(array: &ArrayRef) -> Result<Vec<Option<i64>>, arrow::error::ArrowError> {
    // The zone is kept: leaving it out would turn UTC into local time.
    let zone = match array.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let array = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
    Ok(array.as_primitive::<TimestampMicrosecondType>().iter().collect())
}

fn numbers(array: &ArrayRef) -> Result<Vec<Option<f64>>, arrow::error::ArrowError> {
    let array = cast(array, &DataType::Float64)?;
    Ok(array.as_primitive::<Float64Type>().iter().collect())
}

/// The rows of a record batch that lie in the span, and their positions; `None` when there are none.
pub fn decode(record: &RecordBatch, plan: &Plan) -> Result<Option<(Batch, Vec<usize>)>, SourceError> {
    let layout = &plan.layout;
    let column = |name: &str| {
        record
            .column_by_name(name)
            .ok_or_else(|| plan.corrupt(format!("column `{name}` is not in the answer")))
    };
    let arrow = |error: arrow::error::ArrowError| plan.corrupt(error);
    let all_times = micros(column(&layout.time.name)?).map_err(arrow)?;
    let in_span = |time: &Option<i64>| time.is_some_and(|time| plan.span.0 <= time && time < plan.span.1);
    let mut rows: Vec<usize> = all_times
        .iter()
        .enumerate()
        .filter(|(_, time)| in_span(time))
        .map(|(at, _)| at)
        .collect();
    let labels = if plan.labels {
        let raw = numbers(column(&layout.label.name)?).map_err(arrow)?;
        let known = match &layout.label_time {
            Some(found) => Some(micros(column(&found.name)?).map_err(arrow)?),
            None => None,
        };
        let time_of = |at: usize| all_times[at].unwrap_or(i64::MAX);
        let known_at = |at: usize| {
            known
                .as_ref()
                .map_or(KnownAt::AfterDelay, |known| KnownAt::Column(known[at]))
        };
        rows.retain(|at| plan.knowledge.wants(raw[*at], time_of(*at), known_at(*at)));
        let label = |at: &usize| {
            label_of(raw[*at], time_of(*at), known_at(*at), plan.knowledge)
                .map_err(|value| plan.bad_value(&layout.label.name, bad_label(value)))
        };
        rows.iter().map(label).collect::<Result<_, _>>()?
    } else {
        vec![Label::Unknown; rows.len()]
    };
    if rows.is_empty() {
        return Ok(None);
    }
    let times: Vec<i64> = rows.iter().filter_map(|at| all_times[*at]).collect();
    let scores = match layout.score.as_ref().filter(|_| plan.scores) {
        Some(found) => {
            let raw = numbers(column(&found.name)?).map_err(arrow)?;
            let score = |at: &usize| {
                score_of(raw[*at]).map_err(|value| plan.bad_value(&found.name, bad_score(value)))
            };
            rows.iter().map(score).collect::<Result<_, _>>()?
        }
        None => vec![f64::NAN; rows.len()],
    };
    let mut features = Vec::with_capacity(plan.features.len());
    for at in &plan.features {
        let (feature, found) = &layout.features[*at];
        let array = column(&found.name)?;
        features.push(match feature.kind {
            FeatureKind::Numeric => {
                let raw = numbers(array).map_err(arrow)?;
                Column::Numeric(rows.iter().map(|at| raw[*at].unwrap_or(f64::NAN)).collect())
            }
            FeatureKind::Category => {
                let texts = cast(array, &DataType::Utf8).map_err(arrow)?;
                let texts = texts.as_string::<i32>();
                let mut builder = CategoryBuilder::default();
                for at in &rows {
                    // As everywhere else: PostgreSQL, where levels are kept, has no text with a zero character.
                    let text = (!texts.is_null(*at)).then(|| chassis::text::storable(texts.value(*at)));
                    builder.push(text.as_deref());
                }
                builder.finish()
            }
        });
    }
    Ok(Some((
        Batch {
            times,
            features,
            labels,
            scores,
        },
        rows,
    )))
}
