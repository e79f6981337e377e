//! Rows of a table or view behind a Databricks SQL warehouse, or counts of them.
//!
//! Data of this size do not travel gladly: what can be counted is counted where it lies ([`Table::cells`] and the functions beside
//! it), and only trainings, validations and the sample that edges come from fetch rows.

mod client;
mod sql;

use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;
use chassis::rest::Endpoint;
use tokio::time::Instant;

use crate::batch::{Batch, Label};
use crate::catalogue::{ColumnType, FoundColumn, Layout, resolve};
use crate::counts::{CellCount, Cells, LevelCount, OutcomeCount, Sums};
use crate::definition::ModelDefinition;
use crate::error::{CatalogueProblem, ScanError, SourceError};
use crate::record;
use crate::rows::{bad_label, bad_score, score_of};
use crate::source::Plan;
use client::{AnswerColumn, Client, Failure};
use sql::{Part, Statements};

/// Features that are counted by one statement.
const FEATURES_TOGETHER: usize = 64;
/// Statements are kept shorter than this, in bytes; the warehouse takes 16 MiB.
const STATEMENT_BYTES: usize = 4 * 1024 * 1024;

/// A SQL warehouse.
#[derive(Debug, Clone)]
pub struct Warehouse {
    client: Client,
}

impl Warehouse {
    /// The warehouse with this id, in the workspace that the endpoint leads to.
    pub const fn new(endpoint: Endpoint, id: String) -> Self {
        Self {
            client: Client::new(endpoint, id),
        }
    }
}

/// A table or view.
#[derive(Debug, Clone)]
pub struct Table {
    pub warehouse: Warehouse,
    /// For messages.
    pub name: String,
    /// As it stands in a statement.
    pub quoted: String,
    /// A reading that lasts longer is given up.
    pub answer_max: Duration,
}

/// The table `parts` (of a catalogue and a schema), as it stands in a statement.
pub fn quoted(parts: &[String]) -> String {
    parts
        .iter()
        .map(|part| sql::quoted(part))
        .collect::<Vec<_>>()
        .join(".")
}

/// A way for failures of statements through code that has errors of its own.
enum Reading {
    Failed(Failure),
    Source(SourceError),
}

impl From<Failure> for Reading {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<SourceError> for Reading {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl Table {
    fn problem(&self, problem: CatalogueProblem) -> SourceError {
        SourceError::Catalogue {
            source_name: self.name.clone(),
            problems: vec![problem],
        }
    }

    fn corrupt(&self, cause: impl std::fmt::Display) -> SourceError {
        SourceError::Corrupt {
            source_name: self.name.clone(),
            cause: cause.to_string(),
        }
    }

    fn error(&self, failure: Failure) -> ScanError {
        let source_name = self.name.clone();
        match failure {
            Failure::Unreachable(cause) => SourceError::Unreachable { source_name, cause }.into(),
            Failure::TooSlow => SourceError::TooSlow { source_name }.into(),
            Failure::Refused(cause) => SourceError::Refused { source_name, cause }.into(),
            Failure::Corrupt(cause) => SourceError::Corrupt { source_name, cause }.into(),
            Failure::Statement { sql_state, message } => match sql_state.as_str() {
                // Not there, or not for us: look at the catalogue again.
                "42P01" | "42703" | "42704" | "42501" | "3F000" => ScanError::Changed(message),
                code if code.starts_with("22") => self.corrupt(message).into(),
                _ => SourceError::Refused {
                    source_name,
                    cause: message,
                }
                .into(),
            },
        }
    }

    /// When an answer that is asked for now comes too late.
    fn deadline(&self) -> Instant {
        Instant::now() + self.answer_max
    }

    async fn run(
        &self,
        statement: &str,
        deadline: Instant,
        mut each: impl FnMut(&RecordBatch) -> Result<(), SourceError> + Send,
    ) -> Result<Vec<AnswerColumn>, ScanError> {
        let each = |batch: &RecordBatch| each(batch).map_err(Reading::Source);
        // Boxed: what runs a statement keeps its answer.
        let answered = Box::pin(self.warehouse.client.run(statement, deadline, each)).await;
        answered.map_err(|error| match error {
            Reading::Failed(failure) => self.error(failure),
            Reading::Source(error) => ScanError::Source(error),
        })
    }

    /// Compares the table with the settings.
    pub async fn check(&self, definition: &ModelDefinition) -> Result<Layout, SourceError> {
        let statement = Statements::columns(&self.quoted);
        let nothing = |_: &RecordBatch| Ok::<(), Failure>(());
        let running = self.warehouse.client.run(&statement, self.deadline(), nothing);
        let columns = match Box::pin(running).await {
            Ok(columns) => columns,
            Err(Failure::Statement { sql_state, .. }) if sql_state == "42501" => {
                return Err(self.problem(CatalogueProblem::NoPermission {
                    what: format!("`{}`", self.name),
                    role: "of `warehouse.token`".to_owned(),
                }));
            }
            Err(Failure::Statement { sql_state, .. })
                if ["42P01", "42704", "3F000"].contains(&&*sql_state) =>
            {
                return Err(self.problem(CatalogueProblem::MissingTable {
                    table: self.name.clone(),
                    nearest: None,
                }));
            }
            Err(failure) => return Err(self.error(failure).into_source(&self.name)),
        };
        let columns: Vec<FoundColumn> = columns.into_iter().map(found_column).collect();
        resolve(definition, &columns).map_err(|problems| SourceError::Catalogue {
            source_name: self.name.clone(),
            problems,
        })
    }

    fn statements<'a>(&'a self, plan: &'a Plan) -> Statements<'a> {
        Statements {
            table: &self.quoted,
            plan,
        }
    }

    /// Hands out the rows of a plan, batch by batch.
    pub async fn scan(&self, plan: &Plan, mut each: impl FnMut(&Batch) + Send) -> Result<(), ScanError> {
        let statement = self.statements(plan).rows();
        let decoded = |record: &RecordBatch| {
            if let Some((batch, _)) = record::decode(record, plan)? {
                each(&batch);
            }
            Ok(())
        };
        self.run(&statement, self.deadline(), decoded).await.map(|_| ())
    }

    /// Rows in the plan's window.
    pub async fn count(&self, plan: &Plan) -> Result<u64, ScanError> {
        let statement = self.statements(plan).count();
        let mut found = 0;
        self.each_row(&statement, self.deadline(), |row| {
            found = row.count("n")?;
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Microseconds of the oldest and the newest row.
    pub async fn extent(&self, layout: &Layout) -> Result<Option<(i64, i64)>, ScanError> {
        let statement = Statements::extent(&self.quoted, &layout.time);
        let mut found = None;
        self.each_row(&statement, self.deadline(), |row| {
            found = row.integer("oldest")?.zip(row.integer("newest")?);
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Rows per hour, feature and cell; `cells` are those of the plan's features.
    pub async fn cells_by_hour(
        &self,
        plan: &Plan,
        cells: &[Cells],
        each: impl FnMut(CellCount<i64>) + Send,
    ) -> Result<(), ScanError> {
        let hour = |row: &Row<'_>| row.needed("p");
        self.cells(plan, cells, Part::Hour, hour, each).await
    }

    /// Rows per level of the plan's feature `segment`, feature and cell; `cells` are those of the plan's first features.
    pub async fn cells_by_level(
        &self,
        plan: &Plan,
        cells: &[Cells],
        segment: usize,
        levels: &[String],
        each: impl FnMut(CellCount<Option<String>>) + Send,
    ) -> Result<(), ScanError> {
        let part = Part::Level { segment, levels };
        let level = |row: &Row<'_>| row.optional_text("p");
        self.cells(plan, cells, part, level, each).await
    }

    async fn cells<P>(
        &self,
        plan: &Plan,
        cells: &[Cells],
        part: Part<'_>,
        part_of: impl Fn(&Row<'_>) -> Result<P, SourceError> + Send + Sync,
        mut each: impl FnMut(CellCount<P>) + Send,
    ) -> Result<(), ScanError> {
        // One reading, however many statements.
        let deadline = self.deadline();
        let all: Vec<usize> = (0..cells.len()).collect();
        // Columns lie apart from each other: several statements of some cost what one of all costs.
        let mut chunks: Vec<Vec<usize>> = all.chunks(FEATURES_TOGETHER).map(<[usize]>::to_vec).collect();
        chunks.reverse();
        while let Some(mut chunk) = chunks.pop() {
            let statement = self.statements(plan).cells(&chunk, cells, part);
            if statement.len() > STATEMENT_BYTES && chunk.len() > 1 {
                let rest = chunk.split_off(chunk.len() / 2);
                chunks.extend([rest, chunk]);
                continue;
            }
            self.each_row(&statement, deadline, |row| {
                let (feature, cell) = (row.count("f")? as usize, row.count("c")? as usize);
                if cells.get(feature).is_none_or(|cells| cell >= cells.count()) {
                    return Err(self.corrupt(format!("feature {feature} has no cell {cell}")));
                }
                let values = row.count("vals")?;
                let sum = |name: &str| Ok::<f64, SourceError>(row.number(name)?.unwrap_or(0.0));
                each(CellCount {
                    part: part_of(row)?,
                    feature,
                    cell,
                    rows: row.count("n")?,
                    sums: Sums {
                        values,
                        sum: sum("s")?,
                        sum_of_squares: sum("q")?,
                        min: sum("lo")?,
                        max: sum("hi")?,
                    },
                });
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Rows per level of each category, the most frequent `most` of each.
    pub async fn levels(&self, plan: &Plan, most: usize) -> Result<Vec<LevelCount>, ScanError> {
        let statement = self.statements(plan).levels(most);
        let mut found = Vec::new();
        self.each_row(&statement, self.deadline(), |row| {
            found.push(LevelCount {
                feature: row.count("f")? as usize,
                level: row.text("l")?,
                rows: row.count("n")?,
            });
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Rows whose label is known, and frauds among them.
    pub async fn labels(&self, plan: &Plan) -> Result<(u64, u64), ScanError> {
        let statement = self.statements(plan).labels();
        let mut found = (0, 0);
        self.each_row(&statement, self.deadline(), |row| {
            if let Some(bad) = row.number("bad")? {
                return Err(plan.bad_value(&plan.layout.label.name, bad_label(bad)));
            }
            found = (row.count("n")?, row.count("frauds")?);
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Rows per hour, label, and score as far as the threshold and bins of the score tell them apart.
    pub async fn outcomes(
        &self,
        plan: &Plan,
        threshold: f64,
        resolution: usize,
    ) -> Result<Vec<OutcomeCount>, ScanError> {
        let statement = self.statements(plan).outcomes(threshold, resolution);
        let mut found = Vec::new();
        self.each_row(&statement, self.deadline(), |row| {
            let label = match row.number("y")? {
                None => Label::Unknown,
                Some(0.0) => Label::Genuine,
                Some(1.0) => Label::Fraud,
                Some(other) => return Err(plan.bad_value(&plan.layout.label.name, bad_label(other))),
            };
            let score = |name: &str| {
                let of = || {
                    plan.layout
                        .score
                        .as_ref()
                        .map_or("", |column| column.name.as_str())
                };
                score_of(row.number(name)?).map_err(|value| plan.bad_value(of(), bad_score(value)))
            };
            // Both ends, so that a score outside does not hide behind one inside.
            let (lowest, _) = (score("lo")?, score("hi")?);
            found.push(OutcomeCount {
                hour: row.needed("h")?,
                label,
                score: lowest,
                rows: row.count("n")?,
            });
            Ok(())
        })
        .await?;
        Ok(found)
    }

    async fn each_row(
        &self,
        statement: &str,
        deadline: Instant,
        mut each: impl FnMut(&Row<'_>) -> Result<(), SourceError> + Send,
    ) -> Result<(), ScanError> {
        let rows = |batch: &RecordBatch| {
            let columns = widened(batch).map_err(|error| self.corrupt(error))?;
            (0..batch.num_rows()).try_for_each(|at| {
                each(&Row {
                    table: self,
                    columns: &columns,
                    at,
                })
            })
        };
        self.run(statement, deadline, rows).await.map(|_| ())
    }
}

/// The columns of counts, whichever width they came in: whole numbers, numbers, texts.
fn widened(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            let wide = match field.data_type() {
                kind if kind.is_integer() => DataType::Int64,
                kind if kind.is_string() => DataType::Utf8,
                _ => DataType::Float64,
            };
            Ok((field.name().as_str(), cast(column, &wide)?))
        });
    RecordBatch::try_from_iter(columns.collect::<Result<Vec<_>, ArrowError>>()?)
}

/// One row of counts.
struct Row<'a> {
    table: &'a Table,
    columns: &'a RecordBatch,
    at: usize,
}

impl Row<'_> {
    /// The column, unless its value is missing here.
    fn present<'c, A: Array>(
        &'c self,
        name: &str,
        of_kind: impl Fn(&'c ArrayRef) -> Option<&'c A>,
    ) -> Result<Option<&'c A>, SourceError> {
        let column = self.columns.column_by_name(name).and_then(of_kind);
        let column = column.ok_or_else(|| {
            self.table
                .corrupt(format!("the answer has no `{name}` of its kind"))
        })?;
        Ok((!column.is_null(self.at)).then_some(column))
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, SourceError> {
        let column = self.present(name, |column| column.as_primitive_opt::<Int64Type>())?;
        Ok(column.map(|column| column.value(self.at)))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, SourceError> {
        let column = self.present(name, |column| column.as_primitive_opt::<Float64Type>())?;
        Ok(column.map(|column| column.value(self.at)))
    }

    fn needed(&self, name: &str) -> Result<i64, SourceError> {
        let found = self.integer(name)?;
        found.ok_or_else(|| self.table.corrupt(format!("`{name}` is null")))
    }

    fn count(&self, name: &str) -> Result<u64, SourceError> {
        let found = self.needed(name)?;
        u64::try_from(found).map_err(|_| self.table.corrupt(format!("`{name}` is {found}")))
    }

    fn text(&self, name: &str) -> Result<String, SourceError> {
        let found = self.optional_text(name)?;
        found.ok_or_else(|| self.table.corrupt(format!("`{name}` is null")))
    }

    fn optional_text(&self, name: &str) -> Result<Option<String>, SourceError> {
        let column = self.present(name, |column| column.as_string_opt::<i32>())?;
        Ok(column.map(|column| chassis::text::storable(column.value(self.at)).into_owned()))
    }
}

/// A column by the name of its type: `DECIMAL(12,2)`, `TIMESTAMP_NTZ`.
fn found_column(column: AnswerColumn) -> FoundColumn {
    let word = column.type_text.split('(').next().unwrap_or_default().trim();
    let kind = match word.to_ascii_uppercase().as_str() {
        "TINYINT" | "SMALLINT" | "INT" | "BIGINT" | "BYTE" | "SHORT" | "INTEGER" | "LONG" => {
            ColumnType::Integer
        }
        "FLOAT" | "DOUBLE" | "DECIMAL" | "REAL" => ColumnType::Number,
        "BOOLEAN" => ColumnType::Boolean,
        "STRING" | "CHAR" | "VARCHAR" => ColumnType::Text,
        "TIMESTAMP" | "TIMESTAMP_LTZ" => ColumnType::InstantWithZone,
        "TIMESTAMP_NTZ" => ColumnType::InstantWithoutZone,
        _ => ColumnType::Other,
    };
    FoundColumn {
        name: column.name,
        kind,
        type_name: column.type_text,
    }
}
