//! Tables in Parquet.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{BATCH_ROWS, Format, Stored, Table, TableError, Wanted, hand_out, open_file, unreadable};
use crate::Column;
use crate::arrow_columns::table_columns;

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
    hand_out(reader, wanted, each).map_err(|error| corrupt(&error))
}
