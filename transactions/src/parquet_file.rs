//! Rows of a Parquet file: row groups that the time column's statistics rule out are never read, nor are columns
//! that nobody asked for.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use tokio::sync::mpsc;

use crate::batch::{Batch, CategoryBuilder, Column, Label};
use crate::catalogue::{ColumnType, FeatureKind, FoundColumn, Layout, resolve};
use crate::definition::ModelDefinition;
use crate::error::SourceError;
use crate::rows::{KnownAt, bad_label, bad_score, compare_content, label_of, score_of};
use crate::source::Plan;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 16_384;

/// Compares the file with the settings.
pub async fn check(path: PathBuf, definition: ModelDefinition) -> Result<Layout, SourceError> {
    blocking(path, move |path| check_now(path, &definition)).await
}

/// Microseconds of the oldest and the newest row.
pub async fn extent(path: PathBuf, definition: ModelDefinition) -> Result<Option<(i64, i64)>, SourceError> {
    blocking(path, move |path| extent_now(path, &definition)).await
}

/// Hands out the rows of a plan, batch by batch; an ordered plan is read whole and sorted first.
pub async fn scan(
    path: PathBuf,
    definition: ModelDefinition,
    plan: Plan,
    mut each: impl FnMut(&Batch) + Send,
) -> Result<(), SourceError> {
    // Two batches in flight keep both sides busy and memory small.
    let (sender, mut receiver) = mpsc::channel::<Batch>(2);
    let reading = blocking(path, move |path| {
        // The file may have been replaced since it was opened.
        let layout = check_now(path, &definition)?;
        scan_now(path, &Plan { layout, ..plan }, &mut |batch| {
            sender.blocking_send(batch).is_ok()
        })
    });
    let handing_out = async {
        while let Some(batch) = receiver.recv().await {
            each(&batch);
        }
    };
    let (result, ()) = futures_util::future::join(reading, handing_out).await;
    result
}

async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    let source_name = path.display().to_string();
    match tokio::task::spawn_blocking(move || work(&path)).await {
        Ok(result) => result,
        Err(error) => Err(SourceError::Corrupt {
            source_name,
            cause: error.to_string(),
        }),
    }
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, SourceError> {
    let source_name = || path.display().to_string();
    let file = File::open(path).map_err(|error| SourceError::Unreachable {
        source_name: source_name(),
        cause: error.to_string(),
    })?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| SourceError::Corrupt {
        source_name: source_name(),
        cause: error.to_string(),
    })
}

fn check_now(path: &Path, definition: &ModelDefinition) -> Result<Layout, SourceError> {
    let columns = found_columns(open(path)?.schema());
    resolve(definition, &columns).map_err(|problems| SourceError::Catalogue {
        source_name: path.display().to_string(),
        problems,
    })
}

fn found_columns(schema: &SchemaRef) -> Vec<FoundColumn> {
    schema
        .fields()
        .iter()
        .map(|field| FoundColumn {
            name: field.name().clone(),
            kind: kind_of(field.data_type()),
            type_name: field.data_type().to_string(),
        })
        .collect()
}

fn kind_of(data_type: &DataType) -> ColumnType {
    match data_type {
        DataType::Dictionary(_, values) => kind_of(values),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => ColumnType::Integer,
        DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => ColumnType::Number,
        DataType::Boolean => ColumnType::Boolean,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ColumnType::Text,
        DataType::Timestamp(_, Some(_)) => ColumnType::InstantWithZone,
        DataType::Timestamp(_, None) => ColumnType::InstantWithoutZone,
        _ => ColumnType::Other,
    }
}

/// Reads a plan's rows; `send` says whether anyone still wants them.
fn scan_now(path: &Path, plan: &Plan, send: &mut dyn FnMut(Batch) -> bool) -> Result<(), SourceError> {
    let builder = open(path)?;
    let corrupt = |error: &dyn std::fmt::Display| plan.corrupt(error);
    let wanted = row_groups(&builder, plan).map_err(|error| corrupt(&error))?;
    let columns = columns_of(plan);
    let positions: Vec<usize> = columns
        .iter()
        .filter_map(|name| builder.schema().index_of(name).ok())
        .collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), positions);
    let reader = builder
        .with_row_groups(wanted)
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| corrupt(&error))?;
    let mut whole = Batch::default();
    let mut ids = Ids::none(plan);
    for record in reader {
        let record = record.map_err(|error| corrupt(&error))?;
        let Some((batch, rows)) = decode(&record, plan)? else {
            continue;
        };
        if plan.ordered {
            ids.extend(&record, &rows, plan)?;
            whole.append(&batch);
        } else if !send(batch) {
            return Ok(());
        }
    }
    if plan.ordered && whole.rows() > 0 {
        let mut order: Vec<usize> = (0..whole.rows()).collect();
        order.sort_by(|a, b| {
            whole.times[*a].cmp(&whole.times[*b]).then_with(|| {
                ids.compare(*a, *b)
                    .unwrap_or_else(|| compare_content(&whole, *a, *b))
            })
        });
        send(whole.reordered(&order));
    }
    Ok(())
}

/// Row groups that may hold rows of the plan's span.
fn row_groups(
    builder: &ParquetRecordBatchReaderBuilder<File>,
    plan: &Plan,
) -> Result<Vec<usize>, Box<dyn std::error::Error>> {
    let groups = builder.metadata().row_groups();
    let converter =
        StatisticsConverter::try_new(&plan.layout.time.name, builder.schema(), builder.parquet_schema())?;
    let lows = micros(&converter.row_group_mins(groups)?)?;
    let highs = micros(&converter.row_group_maxes(groups)?)?;
    let may_hold = |group: &usize| {
        let low = lows.get(*group).copied().flatten();
        let high = highs.get(*group).copied().flatten();
        // A group without statistics may hold anything.
        low.is_none_or(|low| low < plan.span.1) && high.is_none_or(|high| high >= plan.span.0)
    };
    Ok((0..groups.len()).filter(may_hold).collect())
}

fn columns_of(plan: &Plan) -> Vec<&str> {
    let layout = &plan.layout;
    let mut names = vec![layout.time.name.as_str()];
    if plan.labels {
        names.push(&layout.label.name);
        names.extend(layout.label_time.as_ref().map(|column| column.name.as_str()));
    }
    if plan.scores {
        names.extend(layout.score.as_ref().map(|column| column.name.as_str()));
    }
    if plan.ordered {
        names.extend(layout.id.as_ref().map(|column| column.name.as_str()));
    }
    names.extend(
        plan.features
            .iter()
            .map(|at| layout.features[*at].1.name.as_str()),
    );
    names
}

/// Timestamps of any unit as microseconds since 1970 UTC.
fn micros(array: &ArrayRef) -> Result<Vec<Option<i64>>, arrow::error::ArrowError> {
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
fn decode(record: &RecordBatch, plan: &Plan) -> Result<Option<(Batch, Vec<usize>)>, SourceError> {
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

/// Ids of rows, only to order them.
enum Ids {
    None,
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
}

impl Ids {
    fn none(plan: &Plan) -> Self {
        match plan.layout.id.as_ref().map(|column| &column.kind) {
            None => Self::None,
            Some(ColumnType::Integer) => Self::Numbers(Vec::new()),
            Some(_) => Self::Texts(Vec::new()),
        }
    }

    fn extend(&mut self, record: &RecordBatch, rows: &[usize], plan: &Plan) -> Result<(), SourceError> {
        let Some(found) = &plan.layout.id else {
            return Ok(());
        };
        let array = record
            .column_by_name(&found.name)
            .ok_or_else(|| plan.corrupt(format!("column `{}` is not in the answer", found.name)))?;
        let arrow = |error: arrow::error::ArrowError| plan.corrupt(error);
        match self {
            Self::None => {}
            Self::Numbers(ids) => {
                let array = cast(array, &DataType::Int64).map_err(arrow)?;
                let array = array.as_primitive::<Int64Type>();
                ids.extend(
                    rows.iter()
                        .map(|at| (!array.is_null(*at)).then(|| array.value(*at))),
                );
            }
            Self::Texts(ids) => {
                let array = cast(array, &DataType::Utf8).map_err(arrow)?;
                let array = array.as_string::<i32>();
                ids.extend(
                    rows.iter()
                        .map(|at| (!array.is_null(*at)).then(|| array.value(*at).to_owned())),
                );
            }
        }
        Ok(())
    }

    /// Missing ids come last, as in PostgreSQL; `None` when there are no ids.
    fn compare(&self, a: usize, b: usize) -> Option<std::cmp::Ordering> {
        fn order<T: Ord>(a: Option<&T>, b: Option<&T>) -> std::cmp::Ordering {
            (a.is_none(), a).cmp(&(b.is_none(), b))
        }
        match self {
            Self::None => None,
            Self::Numbers(ids) => Some(order(ids[a].as_ref(), ids[b].as_ref())),
            Self::Texts(ids) => Some(order(ids[a].as_ref(), ids[b].as_ref())),
        }
    }
}

fn extent_now(path: &Path, definition: &ModelDefinition) -> Result<Option<(i64, i64)>, SourceError> {
    let layout = check_now(path, definition)?;
    let builder = open(path)?;
    let source_name = path.display().to_string();
    let corrupt = |error: &dyn std::fmt::Display| SourceError::Corrupt {
        source_name: source_name.clone(),
        cause: error.to_string(),
    };
    let position = builder
        .schema()
        .index_of(&layout.time.name)
        .map_err(|error| corrupt(&error))?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), [position]);
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| corrupt(&error))?;
    let mut found: Option<(i64, i64)> = None;
    for record in reader {
        let record = record.map_err(|error| corrupt(&error))?;
        for time in micros(record.column(0))
            .map_err(|error| corrupt(&error))?
            .into_iter()
            .flatten()
        {
            let (low, high) = found.unwrap_or((time, time));
            found = Some((low.min(time), high.max(time)));
        }
    }
    Ok(found)
}
