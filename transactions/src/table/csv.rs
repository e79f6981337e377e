//! Tables in text: a line of names, then one row a line.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use arrow::csv::reader::Format as CsvFormat;
use arrow::csv::{Reader, ReaderBuilder};
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
pub struct Dialect {
    delimiter: u8,
    schema: SchemaRef,
}

impl Dialect {
    /// Looks at every row of a file; says how many there are.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn of(path: &Path) -> Result<(Self, u64), TableError> {
        let delimiter = delimiter_of(path)?;
        let (schema, rows) = Self::format(delimiter, &missing())
            .infer_schema(BufReader::new(open_file(path)?), None)
            .map_err(|error| unreadable(path, Format::Csv, &error))?;
        let schema = Arc::new(schema);
        let nameless = |field: &Arc<Field>| field.name().trim().is_empty();
        if let Some(at) = schema.fields().iter().position(nameless) {
            let cause = format!("column {} has no name", at + 1);
            return Err(unreadable(path, Format::Csv, &cause));
        }
        Ok((Self { delimiter, schema }, rows as u64))
    }

    /// Its columns.
    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn format(delimiter: u8, missing: &Regex) -> CsvFormat {
        CsvFormat::default()
            .with_header(true)
            .with_delimiter(delimiter)
            .with_null_regex(missing.clone())
    }

    /// Some columns, by their positions in the file, ascending; those of `as_text` as they are written.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn records(
        &self,
        path: &Path,
        positions: Vec<usize>,
        as_text: impl Fn(usize) -> bool,
    ) -> Result<Reader<File>, TableError> {
        let fields = self.schema.fields().iter().enumerate();
        let fields = fields.map(|(at, field)| {
            let kind = if as_text(at) {
                DataType::Utf8
            } else {
                field.data_type().clone()
            };
            Field::new(field.name(), kind, true)
        });
        ReaderBuilder::new(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
            .with_format(Self::format(self.delimiter, &missing()))
            .with_projection(positions)
            .with_batch_size(BATCH_ROWS)
            .build::<File>(open_file(path)?)
            .map_err(|error| unreadable(path, Format::Csv, &error))
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
    let (dialect, rows) = Dialect::of(path)?;
    Ok(Table {
        path: path.to_owned(),
        columns: table_columns(&dialect.schema),
        rows,
        stored: Stored::Csv(dialect),
    })
}

pub(super) fn read(
    path: &Path,
    dialect: &Dialect,
    wanted: &[Wanted],
    each: &mut dyn FnMut(&[Column]) -> ControlFlow<()>,
) -> Result<u64, TableError> {
    // What is wanted as text is read as text: `007` is not 7 then.
    let as_text = |at| {
        wanted
            .iter()
            .any(|wanted| wanted.at == at && wanted.read_as == As::Categories)
    };
    let reader = dialect.records(path, in_file(wanted), as_text)?;
    hand_out(reader, wanted, each).map_err(|error| unreadable(path, Format::Csv, &error))
}
