//! The features' names and kinds.

use super::features::{Feature, NUMBER_FEATURES};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Numbers.
    Number,
    /// Words.
    Text,
}

/// A column's values, one per row.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Numbers; missing is NaN.
    Number(Vec<f64>),
    /// Words; missing is none.
    Text(Vec<Option<String>>),
}

/// The merchant's category, the last column.
pub(super) const CATEGORY: &str = "merchant_category";

/// Every feature: name and kind, in the order of a day's columns.
pub(super) const COLUMNS: [(&str, ColumnKind); NUMBER_FEATURES + 1] = [
    (Feature::Amount.name(), ColumnKind::Number),
    (Feature::DuringWeekend.name(), ColumnKind::Number),
    (Feature::DuringNight.name(), ColumnKind::Number),
    (Feature::Count1d.name(), ColumnKind::Number),
    (Feature::Average1d.name(), ColumnKind::Number),
    (Feature::Count7d.name(), ColumnKind::Number),
    (Feature::Average7d.name(), ColumnKind::Number),
    (Feature::Count30d.name(), ColumnKind::Number),
    (Feature::Average30d.name(), ColumnKind::Number),
    (Feature::Risk1d.name(), ColumnKind::Number),
    (Feature::Risk7d.name(), ColumnKind::Number),
    (Feature::Risk28d.name(), ColumnKind::Number),
    (Feature::Frauds14d.name(), ColumnKind::Number),
    (Feature::Ratio30d.name(), ColumnKind::Number),
    (CATEGORY, ColumnKind::Text),
];
