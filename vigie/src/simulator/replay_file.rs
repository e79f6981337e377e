//! Payments of a Parquet file, day by day, as the simulator hands them out.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Schema, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, TimeDelta, Utc};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::batch::{DayBatch, FeatureColumn, FeatureValues};

/// Rows decoded at a time.
const READ_ROWS: usize = 16_384;

/// Which column means what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayColumns {
    /// When a payment was made: a timestamp of any unit; without a zone it is read as UTC.
    pub time: String,
    /// Whether it was fraud: boolean, or a number of which 0 is genuine; missing is not known.
    pub label: String,
    /// How long after the payment that became known.
    pub label_delay: TimeDelta,
    /// What a model may learn from: numbers, booleans or text.
    pub features: Vec<String>,
}

/// A file that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be opened.
    #[error("cannot open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no Parquet file, or a damaged one.
    #[error("cannot read {path} as Parquet")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It lacks columns.
    #[error("{path} lacks the columns {}; it has {}", .missing.join(", "), .found.join(", "))]
    Missing {
        /// The file.
        path: PathBuf,
        /// All that are missing.
        missing: Vec<String>,
        /// All that are there.
        found: Vec<String>,
    },
    /// A column has a type that cannot be used.
    #[error("{path}: column `{column}` is {found}; expected {expected}")]
    Kind {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// What can be used.
        expected: &'static str,
    },
    /// A row without time, or older than the row before.
    #[error("{path}: row {row} {problem}")]
    Row {
        /// The file.
        path: PathBuf,
        /// Its number, from 0.
        row: u64,
        /// What is wrong.
        problem: String,
    },
}

/// Reads a file part by part; an iterator of [`DayBatch`], one for each day that has payments, oldest first.
#[derive(Debug)]
pub struct ReplayFile {
    path: PathBuf,
    columns: ReplayColumns,
    reader: ParquetRecordBatchReader,
    /// Finished days.
    waiting: VecDeque<DayBatch>,
    /// The day whose end was not seen yet.
    open: Option<DayBatch>,
    rows: u64,
    failed: bool,
}

impl ReplayFile {
    /// Opens a file and checks its columns.
    ///
    /// # Errors
    /// [`ReplayError`]; all missing columns at once.
    pub fn open(path: &Path, columns: ReplayColumns) -> Result<Self, ReplayError> {
        let file = File::open(path).map_err(|source| ReplayError::Open {
            path: path.to_owned(),
            source,
        })?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(path, error))?;
        check(builder.schema(), path, &columns)?;
        let positions = columns
            .names()
            .filter_map(|name| builder.schema().index_of(name).ok());
        let mask = ProjectionMask::roots(builder.parquet_schema(), positions);
        let builder = builder.with_projection(mask).with_batch_size(READ_ROWS);
        let reader = builder.build().map_err(|error| damaged(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            columns,
            reader,
            waiting: VecDeque::new(),
            open: None,
            rows: 0,
            failed: false,
        })
    }

    /// Cuts decoded rows into days.
    fn take(&mut self, rows: &RecordBatch) -> Result<(), ReplayError> {
        let decoded = self.decode(rows).map_err(|error| damaged(&self.path, error))?;
        for row in 0..rows.num_rows() {
            let number = self.rows + row as u64;
            let refuse = |problem: String| ReplayError::Row {
                path: self.path.clone(),
                row: number,
                problem,
            };
            let micros =
                decoded.times[row].ok_or_else(|| refuse(format!("has no `{}`", self.columns.time)))?;
            let time = DateTime::<Utc>::from_timestamp_micros(micros)
                .ok_or_else(|| refuse(format!("has a `{}` that no calendar knows", self.columns.time)))?;
            let last = self.open.as_ref().and_then(|day| day.times.last());
            if let Some(last) = last.filter(|last| **last > time) {
                return Err(refuse(format!(
                    "is of {time}, older than the row before ({last}): sort the file by time"
                )));
            }
            if last.is_none_or(|last| last.date_naive() != time.date_naive()) {
                self.waiting.extend(self.open.replace(decoded.empty_day()));
            }
            if let Some(day) = &mut self.open {
                decoded.copy(row, time, self.columns.label_delay, day);
            }
        }
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    fn decode(&self, rows: &RecordBatch) -> Result<Decoded, ArrowError> {
        let column = |name: &str| {
            rows.column_by_name(name)
                .ok_or_else(|| ArrowError::SchemaError(format!("column {name} is missing")))
        };
        let numbers = |name: &str| -> Result<Vec<Option<f64>>, ArrowError> {
            Ok(cast(column(name)?, &DataType::Float64)?
                .as_primitive::<Float64Type>()
                .iter()
                .collect())
        };
        let times = column(&self.columns.time)?;
        let zone = if let DataType::Timestamp(_, zone) = times.data_type() {
            zone.clone()
        } else {
            None
        };
        let times = cast(times, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
        let features = self.columns.features.iter().map(|name| {
            let values = column(name)?;
            let values = if is_text(values.data_type()) {
                let words = cast(values, &DataType::Utf8)?;
                FeatureValues::Text(
                    words
                        .as_string::<i32>()
                        .iter()
                        .map(|word| word.map(str::to_owned))
                        .collect(),
                )
            } else {
                FeatureValues::Number(
                    numbers(name)?
                        .into_iter()
                        .map(|number| number.unwrap_or(f64::NAN))
                        .collect(),
                )
            };
            Ok(FeatureColumn {
                name: name.clone(),
                values,
            })
        });
        Ok(Decoded {
            times: times.as_primitive::<TimestampMicrosecondType>().iter().collect(),
            labels: numbers(&self.columns.label)?
                .into_iter()
                .map(|label| label.filter(|label| !label.is_nan()).map(|label| label != 0.0))
                .collect(),
            features: features.collect::<Result<_, ArrowError>>()?,
        })
    }

    fn next_day(&mut self) -> Result<Option<DayBatch>, ReplayError> {
        while self.waiting.is_empty() {
            match self.reader.next() {
                Some(rows) => {
                    let rows = rows.map_err(|error| damaged(&self.path, error))?;
                    self.take(&rows)?;
                }
                None => return Ok(self.open.take()),
            }
        }
        Ok(self.waiting.pop_front())
    }
}

impl Iterator for ReplayFile {
    type Item = Result<DayBatch, ReplayError>;

    /// Nothing comes after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let day = self.next_day();
        self.failed = day.is_err();
        day.transpose()
    }
}

impl ReplayColumns {
    fn names(&self) -> impl Iterator<Item = &str> {
        [&self.time, &self.label]
            .into_iter()
            .chain(&self.features)
            .map(String::as_str)
    }
}

/// Rows of the file, of any number of days.
struct Decoded {
    times: Vec<Option<i64>>,
    labels: Vec<Option<bool>>,
    features: Vec<FeatureColumn>,
}

impl Decoded {
    fn empty_day(&self) -> DayBatch {
        let features = self.features.iter().map(|feature| FeatureColumn {
            name: feature.name.clone(),
            values: match &feature.values {
                FeatureValues::Number(_) => FeatureValues::Number(Vec::new()),
                FeatureValues::Text(_) => FeatureValues::Text(Vec::new()),
            },
        });
        DayBatch {
            features: features.collect(),
            ..DayBatch::default()
        }
    }

    fn copy(&self, row: usize, time: DateTime<Utc>, label_delay: TimeDelta, day: &mut DayBatch) {
        day.times.push(time);
        day.label_times.push(time + label_delay);
        day.labels.push(self.labels[row]);
        for (from, into) in self.features.iter().zip(&mut day.features) {
            match (&from.values, &mut into.values) {
                (FeatureValues::Number(from), FeatureValues::Number(into)) => into.push(from[row]),
                (FeatureValues::Text(from), FeatureValues::Text(into)) => into.push(from[row].clone()),
                _ => unreachable!("a column has one type in all of a file"),
            }
        }
    }
}

fn damaged(path: &Path, source: impl std::error::Error + Send + Sync + 'static) -> ReplayError {
    ReplayError::Read {
        path: path.to_owned(),
        source: Box::new(source),
    }
}

fn check(schema: &Schema, path: &Path, columns: &ReplayColumns) -> Result<(), ReplayError> {
    let missing: Vec<String> = columns
        .names()
        .filter(|name| schema.field_with_name(name).is_err())
        .map(str::to_owned)
        .collect();
    if !missing.is_empty() {
        let found = schema.fields().iter().map(|field| field.name().clone()).collect();
        return Err(ReplayError::Missing {
            path: path.to_owned(),
            missing,
            found,
        });
    }
    let expect = |name: &str, usable: fn(&DataType) -> bool, expected| match schema.field_with_name(name) {
        Ok(field) if !usable(field.data_type()) => Err(ReplayError::Kind {
            path: path.to_owned(),
            column: name.to_owned(),
            found: field.data_type().to_string(),
            expected,
        }),
        _ => Ok(()),
    };
    expect(
        &columns.time,
        |kind| matches!(kind, DataType::Timestamp(..)),
        "a timestamp",
    )?;
    expect(&columns.label, is_number, "a boolean or a number")?;
    let usable = |kind: &DataType| is_number(kind) || is_text(kind);
    columns
        .features
        .iter()
        .try_for_each(|name| expect(name, usable, "a number, a boolean or text"))
}

fn is_number(kind: &DataType) -> bool {
    kind.is_numeric() || *kind == DataType::Boolean
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => is_text(values),
        kind => matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
    }
}
