//! Tables in files, read without settings: Parquet or CSV, each column's kind found out.
//!
//! A table is read as often as wanted, in batches, so that memory does not grow with the file. Kinds are what the file says
//! (Parquet) or what all of its rows allow (CSV: every row is looked at once before the first is handed out).

pub(crate) mod csv;
mod parquet;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use arrow::array::ArrayRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::Column;
use crate::arrow_columns::column_of;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 16_384;

/// How a table is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Text with a line of names, separated by comma, semicolon or tab.
    Csv,
}

/// What the values of a column are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableKind {
    /// Numbers with fractions.
    Number,
    /// Whole numbers.
    Integer,
    /// True or false; read as 1 and 0.
    Flag,
    /// Text.
    Text,
    /// Dates and instants.
    Instant,
    /// What no statistic is made of, such as lists; the file's own name of the type.
    Other(String),
}

impl TableKind {
    /// The word for people.
    pub fn word(&self) -> &str {
        match self {
            Self::Number => "number",
            Self::Integer => "whole number",
            Self::Flag => "flag",
            Self::Text => "text",
            Self::Instant => "instant",
            Self::Other(name) => name,
        }
    }

    /// Whether values can be read as numbers.
    pub fn is_numeric(&self) -> bool {
        matches!(self, Self::Number | Self::Integer | Self::Flag)
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// As the file names it.
    pub name: String,
    /// What its values are.
    pub kind: TableKind,
}

/// How a column is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// Numbers; a missing one is NaN.
    Numbers,
    /// Names of categories.
    Categories,
}

/// A column to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its position in the table.
    pub at: usize,
    /// As what.
    pub read_as: As,
}

/// Why a table cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file is not there, or may not be read.
    #[error("cannot open {path}: {cause}")]
    Unreachable {
        /// The file.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// The file is not what it seems.
    #[error("cannot read {path} as {format}: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// What it was read as.
        format: &'static str,
        /// What is wrong.
        cause: String,
    },
}

/// A table that was looked at.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    columns: Vec<TableColumn>,
    rows: u64,
    stored: Stored,
}

#[derive(Debug)]
enum Stored {
    Parquet,
    Csv(csv::Dialect),
}

impl Table {
    /// Looks at a file; its end says what it is: `.csv`, `.tsv` and `.txt` are text, everything else is Parquet.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let extension = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        let table = if ["csv", "tsv", "txt"].contains(&extension.to_ascii_lowercase().as_str()) {
            csv::open(path)?
        } else {
            parquet::open(path)?
        };
        let mut names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        names.sort_unstable();
        if let Some([twice, ..]) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let cause = format!("two columns are named `{twice}`");
            return Err(unreadable(path, table.format(), &cause));
        }
        Ok(table)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is stored.
    pub fn format(&self) -> Format {
        match self.stored {
            Stored::Parquet => Format::Parquet,
            Stored::Csv(_) => Format::Csv,
        }
    }

    /// Its columns, in the order of the file.
    pub fn columns(&self) -> &[TableColumn] {
        &self.columns
    }

    /// The position of a column.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Reads columns batch by batch, each in the order in which they were asked for; says how many rows were handed out.
    ///
    /// # Errors
    /// [`TableError`] when the file cannot be read, or a value is not what its column is to be read as.
    pub fn read(
        &self,
        wanted: &[Wanted],
        each: &mut dyn FnMut(&[Column]) -> ControlFlow<()>,
    ) -> Result<u64, TableError> {
        match &self.stored {
            Stored::Parquet => parquet::read(&self.path, wanted, each),
            Stored::Csv(dialect) => csv::read(&self.path, dialect, wanted, each),
        }
    }
}

/// Positions that are read, in the order of the file: what a projection hands out.
fn in_file(wanted: &[Wanted]) -> Vec<usize> {
    let mut positions: Vec<usize> = wanted.iter().map(|wanted| wanted.at).collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}

/// Hands out the batches of a projection; says how many rows.
fn hand_out(
    records: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    wanted: &[Wanted],
    each: &mut dyn FnMut(&[Column]) -> ControlFlow<()>,
) -> Result<u64, ArrowError> {
    let positions = in_file(wanted);
    let mut rows = 0;
    for record in records {
        let (_, arrays, count) = record?.into_parts();
        // Each is given away where it is used last, so that its numbers need not be copied.
        let mut arrays: Vec<Option<ArrayRef>> = arrays.into_iter().map(Some).collect();
        let mut columns = Vec::with_capacity(wanted.len());
        for (number, column) in wanted.iter().enumerate() {
            let at = positions.binary_search(&column.at).unwrap_or_default();
            let again = wanted[number + 1..].iter().any(|later| later.at == column.at);
            let array = if again {
                arrays[at].clone()
            } else {
                arrays[at].take()
            };
            let array = array.ok_or_else(|| ArrowError::SchemaError("a column is missing".to_owned()))?;
            columns.push(column_of(array, column.read_as)?);
        }
        rows += count as u64;
        if each(&columns).is_break() {
            break;
        }
    }
    Ok(rows)
}

/// What a file of this format says when it cannot be read.
fn unreadable(path: &Path, format: Format, cause: &dyn std::fmt::Display) -> TableError {
    TableError::Unreadable {
        path: path.display().to_string(),
        format: match format {
            Format::Parquet => "Parquet",
            Format::Csv => "CSV",
        },
        cause: cause.to_string(),
    }
}

fn open_file(path: &Path) -> Result<std::fs::File, TableError> {
    std::fs::File::open(path).map_err(|error| TableError::Unreachable {
        path: path.display().to_string(),
        cause: error.to_string(),
    })
}
