//! Rows of a file, Parquet or CSV: columns that nobody asked for are not read, nor are row groups that the time column's statistics
//! rule out.

mod csv;
mod ids;
mod parquet;

use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use tokio::sync::mpsc;

use crate::batch::Batch;
use crate::catalogue::{ColumnType, FoundColumn, Layout, resolve};
use crate::definition::ModelDefinition;
use crate::error::SourceError;
use crate::record::{decode, micros};
use crate::rows::compare_content;
use crate::source::{Order, Plan};
use ids::Ids;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 16_384;

/// A file with rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataFile {
    /// Apache Parquet.
    Parquet(PathBuf),
    /// Text with a line of names.
    Csv(PathBuf),
}

/// Records of a file, one batch after the other.
type Records = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

impl DataFile {
    /// For messages.
    fn name(&self) -> String {
        match self {
            Self::Parquet(path) | Self::Csv(path) => path.display().to_string(),
        }
    }

    fn corrupt(&self, cause: impl std::fmt::Display) -> SourceError {
        SourceError::Corrupt {
            source_name: self.name(),
            cause: cause.to_string(),
        }
    }

    /// What columns it has.
    fn columns(&self) -> Result<Vec<FoundColumn>, SourceError> {
        let schema = match self {
            Self::Parquet(path) => parquet::schema(path)?,
            Self::Csv(path) => csv::schema(path)?,
        };
        Ok(found_columns(&schema))
    }

    /// Some columns of the rows of a plan, and perhaps of others.
    fn records(&self, columns: &[&str], plan: &Plan) -> Result<Records, SourceError> {
        match self {
            Self::Parquet(path) => parquet::records(path, columns, plan),
            Self::Csv(path) => csv::records(path, columns, plan),
        }
    }
}

/// Compares the file with the settings.
pub async fn check(file: DataFile, definition: ModelDefinition) -> Result<Layout, SourceError> {
    blocking(file, move |file| check_now(file, &definition)).await
}

/// Microseconds of the oldest and the newest row.
pub async fn extent(file: DataFile, definition: ModelDefinition) -> Result<Option<(i64, i64)>, SourceError> {
    blocking(file, move |file| extent_now(file, &definition)).await
}

/// Hands out the rows of a plan, batch by batch; an ordered plan is read whole and sorted first.
pub async fn scan(
    file: DataFile,
    definition: ModelDefinition,
    plan: Plan,
    mut each: impl FnMut(&Batch) + Send,
) -> Result<(), SourceError> {
    // Two batches in flight keep both sides busy and memory small.
    let (sender, mut receiver) = mpsc::channel::<Batch>(2);
    let reading = blocking(file, move |file| {
        // The file may have been replaced since it was opened.
        let layout = check_now(file, &definition)?;
        scan_now(file, &Plan { layout, ..plan }, &mut |batch| {
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
    file: DataFile,
    work: impl FnOnce(&DataFile) -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    let source_name = file.name();
    match tokio::task::spawn_blocking(move || work(&file)).await {
        Ok(result) => result,
        Err(error) => Err(SourceError::Corrupt {
            source_name,
            cause: error.to_string(),
        }),
    }
}

fn check_now(file: &DataFile, definition: &ModelDefinition) -> Result<Layout, SourceError> {
    resolve(definition, &file.columns()?).map_err(|problems| SourceError::Catalogue {
        source_name: file.name(),
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
fn scan_now(file: &DataFile, plan: &Plan, send: &mut dyn FnMut(Batch) -> bool) -> Result<(), SourceError> {
    let mut whole = Batch::default();
    let mut ids = Ids::none(plan);
    for record in file.records(&columns_of(plan), plan)? {
        let record = record.map_err(|error| plan.corrupt(error))?;
        let Some((batch, rows)) = decode(&record, plan)? else {
            continue;
        };
        if plan.order == Order::Time {
            ids.extend(&record, &rows, plan)?;
            whole.append(&batch);
        } else if !send(batch) {
            return Ok(());
        }
    }
    if plan.order == Order::Time && whole.rows() > 0 {
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
    if plan.order == Order::Time {
        names.extend(layout.id.as_ref().map(|column| column.name.as_str()));
    }
    names.extend(
        plan.features
            .iter()
            .map(|at| layout.features[*at].1.name.as_str()),
    );
    names
}

fn extent_now(file: &DataFile, definition: &ModelDefinition) -> Result<Option<(i64, i64)>, SourceError> {
    let layout = check_now(file, definition)?;
    let name = layout.time.name.clone();
    let mut found: Option<(i64, i64)> = None;
    for record in file.records(&[name.as_str()], &Plan::of_all(layout, file.name()))? {
        let record = record.map_err(|error| file.corrupt(error))?;
        let times = micros(record.column(0)).map_err(|error| file.corrupt(error))?;
        for time in times.into_iter().flatten() {
            let (low, high) = found.unwrap_or((time, time));
            found = Some((low.min(time), high.max(time)));
        }
    }
    Ok(found)
}
