//! Tables in Parquet.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use arrow::record_batch::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{BATCH_ROWS, Format, Stored, Table, TableError, Wanted, open_file, unreadable};
use crate::Column;
use crate::arrow_columns::{column_of, table_columns};

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, TableError> {
    ParquetRecordBatchReaderBuilder::try_new(open_file(path)?)
        .map_err(|error| unreadable(path, Format::Parquet, &error))
}

pub(super) fn open(path: &Path) -> Result<Table, TableError> {
    let builder = builder(path)?;
    let rows = builder.metadata().file_metadata().num_rows();
    Ok(Table {
        path: path.to_owned(),
        columns: table_columns(builder.schema()),
        rows: rows.unsigned_abs(),
        stored: Stored::Parquet,
    })
}

pub(super) fn read(
    path: &Path,
    wanted: &[Wanted],
    each: &mut dyn FnMut(&[Column]) -> ControlFlow<()>,
) -> Result<u64, TableError> {
    let corrupt = |error: &dyn std::fmt::Display| unreadable(path, Format::Parquet, error);
    let builder = builder(path)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.iter().map(|wanted| wanted.at));
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| corrupt(&error))?;
    // A projection keeps the order of the file.
    let mut in_file: Vec<usize> = wanted.iter().map(|wanted| wanted.at).collect();
    in_file.sort_unstable();
    in_file.dedup();
    let mut rows = 0;
    for record in reader {
        let record: RecordBatch = record.map_err(|error| corrupt(&error))?;
        let columns = wanted
            .iter()
            .map(|wanted| {
                let at = in_file.binary_search(&wanted.at).unwrap_or_default();
                column_of(record.column(at), wanted.read_as)
            })
            .collect::<Result<Vec<Column>, _>>()
            .map_err(|error| corrupt(&error))?;
        rows += record.num_rows() as u64;
        if each(&columns).is_break() {
            break;
        }
    }
    Ok(rows)
}
