//! Records of a CSV file. What its columns are is found out from all of its rows, each time that it is read.

use std::path::Path;

use arrow::datatypes::SchemaRef;

use super::Records;
use crate::catalogue::FeatureKind;
use crate::error::SourceError;
use crate::source::Plan;
use crate::table::TableError;
use crate::table::csv::Dialect;

fn error_of(error: TableError) -> SourceError {
    match error {
        TableError::Unreachable { path, cause } => SourceError::Unreachable {
            source_name: path,
            cause,
        },
        TableError::Unreadable { path, cause, .. } => SourceError::Corrupt {
            source_name: path,
            cause,
        },
    }
}

pub(super) fn schema(path: &Path) -> Result<SchemaRef, SourceError> {
    let (dialect, _) = Dialect::of(path).map_err(error_of)?;
    Ok(dialect.schema().clone())
}

pub(super) fn records(path: &Path, columns: &[&str], plan: &Plan) -> Result<Records, SourceError> {
    let (dialect, _) = Dialect::of(path).map_err(error_of)?;
    let position = |name: &str| dialect.schema().index_of(name).ok();
    let mut positions: Vec<usize> = columns.iter().filter_map(|name| position(name)).collect();
    positions.sort_unstable();
    positions.dedup();
    // What names categories is text: `007` is not 7 then.
    let of_kind = |kind| {
        let features = plan.features.iter().map(|at| &plan.layout.features[*at].0);
        let named = features.filter(move |feature| feature.kind == kind);
        named
            .filter_map(|feature| position(&feature.name))
            .collect::<Vec<_>>()
    };
    // A number among the features that is a column of segments too stays a number, and names its level as it is printed.
    let numbers = of_kind(FeatureKind::Numeric);
    let texts: Vec<usize> = of_kind(FeatureKind::Category)
        .into_iter()
        .filter(|at| !numbers.contains(at))
        .collect();
    let reader = dialect
        .records(path, positions, |at| texts.contains(&at))
        .map_err(error_of)?;
    Ok(Box::new(reader))
}
