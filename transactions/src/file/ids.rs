//! Ids of rows, only to order them.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

use crate::catalogue::ColumnType;
use crate::error::SourceError;
use crate::source::Plan;

/// One id per row that was kept.
pub enum Ids {
    None,
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
}

impl Ids {
    /// No rows yet.
    pub fn none(plan: &Plan) -> Self {
        match plan.layout.id.as_ref().map(|column| &column.kind) {
            None => Self::None,
            Some(ColumnType::Integer) => Self::Numbers(Vec::new()),
            Some(_) => Self::Texts(Vec::new()),
        }
    }

    /// Adds the ids of these rows of a record.
    pub fn extend(&mut self, record: &RecordBatch, rows: &[usize], plan: &Plan) -> Result<(), SourceError> {
        let Some(found) = &plan.layout.id else {
            return Ok(());
        };
        let array = record
            .column_by_name(&found.name)
            .ok_or_else(|| plan.corrupt(format!("column `{}` is not in the answer", found.name)))?;
        let arrow = |error: arrow::error::ArrowError| plan.corrupt(error);
        match self {
            Self::None => {}
            Self::Numbers(ids) => {
                let array = cast(array, &DataType::Int64).map_err(arrow)?;
                let array = array.as_primitive::<Int64Type>();
                ids.extend(
                    rows.iter()
                        .map(|at| (!array.is_null(*at)).then(|| array.value(*at))),
                );
            }
            Self::Texts(ids) => {
                let array = cast(array, &DataType::Utf8).map_err(arrow)?;
                let array = array.as_string::<i32>();
                ids.extend(
                    rows.iter()
                        .map(|at| (!array.is_null(*at)).then(|| array.value(*at).to_owned())),
                );
            }
        }
        Ok(())
    }

    /// Missing ids come last, as in PostgreSQL; `None` when there are no ids.
    pub fn compare(&self, a: usize, b: usize) -> Option<std::cmp::Ordering> {
        fn order<T: Ord>(a: Option<&T>, b: Option<&T>) -> std::cmp::Ordering {
            (a.is_none(), a).cmp(&(b.is_none(), b))
        }
        match self {
            Self::None => None,
            Self::Numbers(ids) => Some(order(ids[a].as_ref(), ids[b].as_ref())),
            Self::Texts(ids) => Some(order(ids[a].as_ref(), ids[b].as_ref())),
        }
    }
}
