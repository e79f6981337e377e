//! Simulated payments as a Parquet file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int8Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, Utc};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::batch::{DayBatch, FeatureValues, Origins};
use super::columns::{CATEGORY, COLUMNS};
use super::options::{InvalidOptions, SimulateOptions};
use super::stream::Simulator;

/// Rows of a row group: small enough to skip by time, large enough to compress.
const GROUP_ROWS: usize = 50_000;

/// How far a simulation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Days done.
    pub days: u32,
    /// Days in all.
    pub days_total: u32,
    /// Payments so far.
    pub payments: u64,
    /// Frauds among them.
    pub frauds: u64,
}

/// Why no file was written.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// Options out of range.
    #[error(transparent)]
    Options(#[from] InvalidOptions),
    /// There is something that must not be replaced.
    #[error("{path} is {found}; expected a file or a new name")]
    Target {
        /// What stands there.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The file system refused.
    #[error("cannot write {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The writer refused.
    #[error("cannot write {path} as Parquet")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: ParquetError,
    },
}

/// Simulates into a Parquet file, day by day; `progress` hears of each. A file that exists is replaced, and only when
/// all is written; where a link leads, the file behind it. Nothing but a file is ever replaced.
///
/// Columns: `transaction_id`, `tx_time` (UTC), `customer_id`, `terminal_id`, the features of [`COLUMNS`], `is_fraud`,
/// `labelled_at` (UTC), `fraud_scenario` (0 to 4, see [`super::Scenario`]; reveals the label, never an input).
///
/// # Errors
/// [`SimulateError`].
pub fn simulate(
    options: &SimulateOptions,
    path: &Path,
    mut progress: impl FnMut(Progress),
) -> Result<Progress, SimulateError> {
    options.check()?;
    let path = &target_of(path)?;
    let partial = beside(path);
    make_way(&partial)?;
    let simulator = Simulator::new(options)?;
    let result = write(simulator, &partial, &mut progress).and_then(|done| {
        fs::rename(&partial, path).map_err(|source| SimulateError::File {
            path: path.to_owned(),
            source,
        })?;
        Ok(done)
    });
    if result.is_err() {
        // Half a file helps nobody; the error to report is the first one.
        let _ = fs::remove_file(&partial);
    }
    result
}

/// The file that is to be written, behind links.
fn target_of(path: &Path) -> Result<PathBuf, SimulateError> {
    let refused = |found| SimulateError::Target {
        path: path.to_owned(),
        found,
    };
    let file_error = |source| SimulateError::File {
        path: path.to_owned(),
        source,
    };
    match fs::metadata(path) {
        Ok(there) if there.is_file() => fs::canonicalize(path).map_err(file_error),
        Ok(there) if there.is_dir() => Err(refused("a folder")),
        Ok(_) => Err(refused("no regular file (a device, a pipe or a socket)")),
        Err(_) if fs::symlink_metadata(path).is_ok() => Err(refused("a link that leads nowhere")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(path.to_owned()),
        Err(error) => Err(file_error(error)),
    }
}

/// Removes what an interrupted run left; anything else under this name stays.
fn make_way(partial: &Path) -> Result<(), SimulateError> {
    match fs::symlink_metadata(partial) {
        Ok(there) if there.is_file() => fs::remove_file(partial).map_err(|source| SimulateError::File {
            path: partial.to_owned(),
            source,
        }),
        Ok(_) => Err(SimulateError::Target {
            path: partial.to_owned(),
            found: "in the way and no file",
        }),
        Err(_) => Ok(()),
    }
}

/// A name in the same folder, so that renaming is one step.
fn beside(path: &Path) -> PathBuf {
    let mut name = path
        .file_name()
        .map_or_else(|| OsString::from("simulated"), OsString::from);
    name.push(".partial");
    path.with_file_name(name)
}

fn write(
    simulator: Simulator,
    path: &Path,
    progress: &mut impl FnMut(Progress),
) -> Result<Progress, SimulateError> {
    let file_error = |source| SimulateError::File {
        path: path.to_owned(),
        source,
    };
    let parquet_error = |source| SimulateError::Parquet {
        path: path.to_owned(),
        source,
    };
    let file = BufWriter::new(File::create_new(path).map_err(file_error)?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let schema = Arc::new(schema());
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(parquet_error)?;
    let mut done = Progress {
        days: 0,
        days_total: simulator.options().days,
        payments: 0,
        frauds: 0,
    };
    for batch in simulator {
        done.days += 1;
        done.payments += batch.len() as u64;
        done.frauds += batch.frauds() as u64;
        let batch = record_batch(&schema, batch).map_err(|error| parquet_error(error.into()))?;
        writer.write(&batch).map_err(parquet_error)?;
        progress(done);
    }
    let file = writer.into_inner().map_err(parquet_error)?;
    let file = file
        .into_inner()
        .map_err(|error| file_error(error.into_error()))?;
    file.sync_all().map_err(file_error)?;
    Ok(done)
}

fn schema() -> Schema {
    let field = |name: &str, kind, nullable| Field::new(name, kind, nullable);
    let instant = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields = vec![
        field("transaction_id", DataType::Int64, false),
        field("tx_time", instant(), false),
        field("customer_id", DataType::Int32, false),
        field("terminal_id", DataType::Int32, false),
    ];
    fields.extend(COLUMNS.iter().enumerate().map(|(at, column)| {
        field(
            column.name,
            if at == CATEGORY {
                DataType::Utf8
            } else {
                DataType::Float64
            },
            true,
        )
    }));
    fields.extend([
        field("is_fraud", DataType::Boolean, true),
        field("labelled_at", instant(), false),
        field("fraud_scenario", DataType::Int8, false),
    ]);
    Schema::new(fields)
}

fn record_batch(schema: &Arc<Schema>, batch: DayBatch) -> Result<RecordBatch, ArrowError> {
    let instants = |times: &[DateTime<Utc>]| -> ArrayRef {
        let micros = times.iter().map(DateTime::timestamp_micros);
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
    };
    let Origins {
        transactions,
        customers,
        terminals,
        scenarios,
    } = batch.origins.unwrap_or_default();
    let ids = |values: Vec<u32>| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(
            values.into_iter().map(|id| id as i32),
        ))
    };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(transactions)),
        instants(&batch.times),
        ids(customers),
        ids(terminals),
    ];
    columns.extend(batch.features.into_iter().map(|feature| -> ArrayRef {
        match feature.values {
            FeatureValues::Number(values) => Arc::new(
                values
                    .into_iter()
                    .map(|value| (!value.is_nan()).then_some(value))
                    .collect::<Float64Array>(),
            ),
            FeatureValues::Text(values) => Arc::new(StringArray::from(values)),
        }
    }));
    columns.extend([
        Arc::new(BooleanArray::from(batch.labels)) as ArrayRef,
        instants(&batch.label_times),
        Arc::new(Int8Array::from_iter_values(
            scenarios.into_iter().map(super::Scenario::code),
        )),
    ]);
    RecordBatch::try_new(schema.clone(), columns)
}
