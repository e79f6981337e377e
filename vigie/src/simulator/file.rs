//! All days to a Parquet file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::columns::{COLUMNS, ColumnKind, Values};
use super::{DAY, Day, SimulateOptions, Simulation};

/// A bank learns of a fraud one day later.
const LABEL_DELAY_MICROS: i64 = DAY * 1_000_000;
const ROWS_PER_GROUP: usize = 100_000;

/// Writes all days to a Parquet file (zstd) and gives the number of rows.
///
/// Columns: `transaction_id` (from 1, in order of time), `tx_time` (timestamp in microseconds, UTC), `is_fraud`,
/// `labelled_at` (one day after the payment), then [`Simulation::columns`]; a missing value is null. The file appears
/// under its name only when it is complete; a file of that name is replaced. `progress` hears, after each day, its
/// number from 1 and the rows so far.
///
/// # Errors
/// What [`SimulateOptions::check`] finds, and a file that cannot be written.
pub fn write_parquet(
    options: &SimulateOptions,
    out: &Path,
    progress: &mut dyn FnMut(u32, u64),
) -> anyhow::Result<u64> {
    let simulation = Simulation::new(options)?;
    let shown = out.display();
    let name = out
        .file_name()
        .with_context(|| format!("`{shown}` names no file"))?;
    ensure!(
        !out.is_dir(),
        "`{shown}` is a folder; name a file in it, such as payments.parquet"
    );
    let mut partial = name.to_owned();
    partial.push(format!(".partial-{}", std::process::id()));
    let partial = Partial {
        path: out.with_file_name(partial),
    };
    let rows = write_days(simulation, &partial.path, progress)
        .with_context(|| format!("write `{}`", partial.path.display()))?;
    std::fs::rename(&partial.path, out).with_context(|| format!("name the finished file `{shown}`"))?;
    Ok(rows)
}

/// An unfinished file, removed when it does not get its name.
struct Partial {
    path: PathBuf,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(
                "could not remove the unfinished file `{}`: {error}",
                self.path.display()
            );
        }
    }
}

fn write_days(
    simulation: Simulation,
    path: &Path,
    progress: &mut dyn FnMut(u32, u64),
) -> anyhow::Result<u64> {
    let schema = Arc::new(schema());
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, schema.clone(), Some(properties))?;
    let mut rows = 0;
    for (day, number) in simulation.zip(1..) {
        let batch = batch(&schema, rows, day)?;
        writer.write(&batch)?;
        rows += batch.num_rows() as u64;
        progress(number, rows);
    }
    let file = writer.into_inner()?;
    file.sync_all()?;
    Ok(rows)
}

fn schema() -> Schema {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields = vec![
        Field::new("transaction_id", DataType::Int64, false),
        Field::new("tx_time", instant.clone(), false),
        Field::new("is_fraud", DataType::Boolean, false),
        Field::new("labelled_at", instant, false),
    ];
    fields.extend(COLUMNS.map(|(name, kind)| {
        let kind = match kind {
            ColumnKind::Number => DataType::Float64,
            ColumnKind::Text => DataType::Utf8,
        };
        Field::new(name, kind, true)
    }));
    Schema::new(fields)
}

fn batch(schema: &Arc<Schema>, rows_before: u64, day: Day) -> anyhow::Result<RecordBatch> {
    let first = rows_before as i64 + 1;
    let micros = || day.time.iter().map(chrono::DateTime::timestamp_micros);
    let time = TimestampMicrosecondArray::from_iter_values(micros());
    let labelled = TimestampMicrosecondArray::from_iter_values(micros().map(|at| at + LABEL_DELAY_MICROS));
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(first..first + day.time.len() as i64)),
        Arc::new(time.with_timezone("UTC")),
        Arc::new(BooleanArray::from(day.fraud)),
        Arc::new(labelled.with_timezone("UTC")),
    ];
    for column in day.columns {
        arrays.push(match column {
            Values::Number(values) => Arc::new(
                values
                    .into_iter()
                    .map(|value| (!value.is_nan()).then_some(value))
                    .collect::<Float64Array>(),
            ),
            Values::Text(values) => Arc::new(StringArray::from(values)),
        });
    }
    Ok(RecordBatch::try_new(schema.clone(), arrays)?)
}
