//! Arrow's columns as ours.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, SchemaRef};
use arrow::error::ArrowError;

use crate::Column;
use crate::batch::CategoryBuilder;
use crate::table::{As, TableColumn, TableKind};

/// The columns of a table, by their types.
pub fn table_columns(schema: &SchemaRef) -> Vec<TableColumn> {
    schema
        .fields()
        .iter()
        .map(|field| TableColumn {
            name: field.name().clone(),
            kind: table_kind(field.data_type()),
        })
        .collect()
}

fn table_kind(data_type: &DataType) -> TableKind {
    match data_type {
        DataType::Dictionary(_, values) => table_kind(values),
        // A column without a value in any row: whatever it is to be, it is missing.
        DataType::Null => TableKind::Number,
        DataType::Boolean => TableKind::Flag,
        kind if kind.is_integer() => TableKind::Integer,
        kind if kind.is_floating() => TableKind::Number,
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => TableKind::Number,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => TableKind::Text,
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => TableKind::Instant,
        other => TableKind::Other(other.to_string()),
    }
}

/// The values of a column.
///
/// # Errors
/// When they cannot be read as that.
pub fn column_of(array: ArrayRef, read_as: As) -> Result<Column, ArrowError> {
    match read_as {
        As::Numbers => numbers(array).map(Column::Numeric),
        As::Categories => categories(&array),
    }
}

/// Numbers; missing ones are NaN.
///
/// # Errors
/// When the values are no numbers.
pub fn numbers(array: ArrayRef) -> Result<Vec<f64>, ArrowError> {
    let floats = cast(&array, &DataType::Float64)?;
    // What nobody else holds is handed on without a copy.
    drop(array);
    let typed = floats.as_primitive::<Float64Type>();
    if typed.null_count() > 0 {
        return Ok(typed.iter().map(|value| value.unwrap_or(f64::NAN)).collect());
    }
    let values = typed.values().clone();
    drop(floats);
    let owned = values.into_inner().into_vec::<f64>();
    Ok(owned.unwrap_or_else(|shared| ScalarBuffer::<f64>::from(shared).to_vec()))
}

/// Names of categories.
///
/// # Errors
/// When the values have no names.
pub fn categories(array: &ArrayRef) -> Result<Column, ArrowError> {
    if let Some(dictionary) = array.as_dictionary_opt::<Int32Type>()
        && let Some(names) = dictionary.values().as_string_opt::<i32>()
    {
        return Ok(of_dictionary(dictionary.keys().iter(), names));
    }
    let texts = cast(array, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    let mut builder = CategoryBuilder::default();
    for text in texts {
        // As everywhere else: PostgreSQL, where levels are kept, has no text with a zero character.
        let text = text.map(chassis::text::storable);
        builder.push(text.as_deref());
    }
    Ok(builder.finish())
}

/// Each name is looked at once, however many rows have it; those that no row has are no levels.
fn of_dictionary(keys: impl Iterator<Item = Option<i32>>, names: &StringArray) -> Column {
    let mut builder = CategoryBuilder::default();
    let mut codes: Vec<Option<u32>> = vec![None; names.len()];
    for key in keys {
        let at = key.and_then(|key| usize::try_from(key).ok());
        let Some((at, code)) = at.and_then(|at| Some((at, codes.get_mut(at)?))) else {
            builder.push(None);
            continue;
        };
        let known = *code.get_or_insert_with(|| {
            if names.is_null(at) {
                Column::MISSING
            } else {
                builder.code_of(&chassis::text::storable(names.value(at)))
            }
        });
        builder.push_code(known);
    }
    builder.finish()
}
