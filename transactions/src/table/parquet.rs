//! Tables in Parquet.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::{As, BATCH_ROWS, Format, Stored, Table, TableError, Wanted, hand_out, open_file, unreadable};
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

/// The schema, with texts that are categories as the dictionaries that most files keep them in: no text is made for each row.
fn with_dictionaries(schema: &SchemaRef, wanted: &[Wanted]) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(at, field)| {
            let is_category = wanted
                .iter()
                .any(|wanted| wanted.at == at && wanted.read_as == As::Categories);
            let field = field.as_ref().clone();
            if is_category && *field.data_type() == DataType::Utf8 {
                field.with_data_type(DataType::Dictionary(
                    DataType::Int32.into(),
                    DataType::Utf8.into(),
                ))
            } else {
                field
            }
        })
        .collect();
    Schema::new_with_metadata(fields, schema.metadata().clone()).into()
}

pub(super) fn read(
    path: &Path,
    wanted: &[Wanted],
    each: &mut dyn FnMut(&[Column]) -> ControlFlow<()>,
) -> Result<u64, TableError> {
    let corrupt = |error: &dyn std::fmt::Display| unreadable(path, Format::Parquet, error);
    let builder = builder(path)?;
    let schema = with_dictionaries(builder.schema(), wanted);
    let options = ArrowReaderOptions::new().with_schema(schema);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(open_file(path)?, options)
        .map_err(|error| corrupt(&error))?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.iter().map(|wanted| wanted.at));
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| corrupt(&error))?;
    hand_out(reader, wanted, each).map_err(|error| corrupt(&error))
}
