//! Records of a Parquet file.

use std::fs::File;
use std::path::Path;

use arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;

use super::{BATCH_ROWS, Records};
use crate::error::SourceError;
use crate::record::micros;
use crate::source::Plan;

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, SourceError> {
    let source_name = || path.display().to_string();
    let file = File::open(path).map_err(|error| SourceError::Unreachable {
        source_name: source_name(),
        cause: error.to_string(),
    })?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| SourceError::Corrupt {
        source_name: source_name(),
        cause: error.to_string(),
    })
}

pub(super) fn schema(path: &Path) -> Result<SchemaRef, SourceError> {
    Ok(open(path)?.schema().clone())
}

pub(super) fn records(path: &Path, columns: &[&str], plan: &Plan) -> Result<Records, SourceError> {
    let builder = open(path)?;
    let wanted = row_groups(&builder, plan).map_err(|error| plan.corrupt(error))?;
    let positions: Vec<usize> = columns
        .iter()
        .filter_map(|name| builder.schema().index_of(name).ok())
        .collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), positions);
    let reader = builder
        .with_row_groups(wanted)
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| plan.corrupt(error))?;
    Ok(Box::new(reader))
}

/// Row groups that may hold rows of the plan's span.
fn row_groups(
    builder: &ParquetRecordBatchReaderBuilder<File>,
    plan: &Plan,
) -> Result<Vec<usize>, Box<dyn std::error::Error>> {
    let groups = builder.metadata().row_groups();
    let converter =
        StatisticsConverter::try_new(&plan.layout.time.name, builder.schema(), builder.parquet_schema())?;
    let lows = micros(&converter.row_group_mins(groups)?)?;
    let highs = micros(&converter.row_group_maxes(groups)?)?;
    let may_hold = |group: &usize| {
        let low = lows.get(*group).copied().flatten();
        let high = highs.get(*group).copied().flatten();
        // A group without statistics may hold anything.
        low.is_none_or(|low| low < plan.span.1) && high.is_none_or(|high| high >= plan.span.0)
    };
    Ok((0..groups.len()).filter(may_hold).collect())
}
