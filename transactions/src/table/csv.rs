//! Tables in text: a line of names, then one row a line.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format as CsvFormat;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use regex::Regex;

use super::{
    As, BATCH_ROWS, Format, Stored, Table, TableError, Wanted, hand_out, in_file, open_file, unreadable,
};
use crate::Column;
use crate::arrow_columns::table_columns;

/// What stands for a missing value, besides nothing at all.
const MISSING: &str = "^(?i:na|n/a|nan|null|none)?$";

/// How a file separates values, and what they are.
#[derive(Debug)]
pub(super) struct Dialect {
    delimiter: u8,
    schema: SchemaRef,
}

impl Dialect {
    fn format(delimiter: u8, missing: &Regex) -> CsvFormat {
        CsvFormat::default()
            .with_header(true)
            .with_delimiter(delimiter)
            .with_null_regex(missing.clone())
    }
}

fn missing() -> Regex {
    Regex::new(MISSING).unwrap_or_else(|_| unreachable!("a constant expression"))
}

/// The separator that the line of names has most of.
fn delimiter_of(path: &Path) -> Result<u8, TableError> {
    let mut names = String::new();
    BufReader::new(open_file(path)?)
        .read_line(&mut names)
        .map_err(|error| unreadable(path, Format::Csv, &error))?;
    if names.trim().is_empty() {
        return Err(unreadable(
            path,
            Format::Csv,
            &"the first line must name the columns",
        ));
    }
    let count = |delimiter: &u8| names.bytes().filter(|byte| byte == delimiter).count();
    Ok(b";\t,".iter().copied().max_by_key(count).unwrap_or(b','))
}

pub(super) fn open(path: &Path) -> Result<Table, TableError> {
    let delimiter = delimiter_of(path)?;
    let (schema, rows) = Dialect::format(delimiter, &missing())
        .infer_schema(BufReader::new(open_file(path)?), None)
        .map_err(|error| unreadable(path, Format::Csv, &error))?;
    let schema = Arc::new(schema);
    let columns = table_columns(&schema);
    if let Some(at) = columns.iter().position(|column| column.name.trim().is_empty()) {
        let cause = format!("column {} has no name", at + 1);
        return Err(unreadable(path, Format::Csv, &cause));
    }
    Ok(Table {
        path: path.to_owned(),
        columns,
        rows: rows as u64,
        stored: Stored::Csv(Dialect { delimiter, schema }),
    })
}

pub(super) fn read(
    path: &Path,
    dialect: &Dialect,
    wanted: &[Wanted],
    each: &mut dyn FnMut(&[Column]) -> ControlFlow<()>,
) -> Result<u64, TableError> {
    let corrupt = |error: &dyn std::fmt::Display| unreadable(path, Format::Csv, error);
    // What is wanted as text is read as text: `007` is not 7 then.
    let fields: Vec<Field> = dialect
        .schema
        .fields()
        .iter()
        .enumerate()
        .map(|(at, field)| {
            let as_text = wanted
                .iter()
                .any(|wanted| wanted.at == at && wanted.read_as == As::Categories);
            let kind = if as_text {
                DataType::Utf8
            } else {
                field.data_type().clone()
            };
            Field::new(field.name(), kind, true)
        })
        .collect();
    let reader = ReaderBuilder::new(Arc::new(Schema::new(fields)))
        .with_format(Dialect::format(dialect.delimiter, &missing()))
        .with_projection(in_file(wanted))
        .with_batch_size(BATCH_ROWS)
        .build::<File>(open_file(path)?)
        .map_err(|error| corrupt(&error))?;
    hand_out(reader, wanted, each).map_err(|error| corrupt(&error))
}
