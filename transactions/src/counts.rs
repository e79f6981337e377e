//! Rows counted where they lie: what a source that outgrows one machine gives instead of its rows.

use crate::batch::Label;

/// How the values of one feature are told apart. Cells have numbers, in the order given here.
#[derive(Debug, Clone, PartialEq)]
pub enum Cells {
    /// Missing (null or NaN) is 0; then one cell per point; then the intervals that the edges cut the line into, each with its lower
    /// edge. A value that is a point lies in no interval.
    Numbers {
        /// Values with a cell of their own, ascending.
        points: Vec<f64>,
        /// Inner edges of the intervals, ascending.
        edges: Vec<f64>,
    },
    /// Missing is 0, any other level 1, a pooled one 2; then one cell per level.
    Levels {
        /// Levels with a cell of their own.
        levels: Vec<String>,
        /// Levels that share a cell.
        pooled: Vec<String>,
    },
}

impl Cells {
    /// How many cells there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Numbers { points, edges } => 1 + points.len() + edges.len() + 1,
            Self::Levels { levels, .. } => 3 + levels.len(),
        }
    }
}

/// Rows of one part – an hour, a segment – in one cell of one feature.
#[derive(Debug, Clone, PartialEq)]
pub struct CellCount<P> {
    /// Which part.
    pub part: P,
    /// Position among the features of the request.
    pub feature: usize,
    /// The cell.
    pub cell: usize,
    /// Rows, 1 or more.
    pub rows: u64,
    /// Of the finite numbers among them.
    pub sums: Sums,
}

/// Sums over the finite numbers of a cell; zeros when there are none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sums {
    /// How many.
    pub values: u64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_of_squares: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// Rows of one level of a category.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelCount {
    /// Position among the features of the request.
    pub feature: usize,
    /// The level.
    pub level: String,
    /// Rows, 1 or more.
    pub rows: u64,
}

/// Rows of one hour that a model's performance cannot tell apart: one label, and scores of one bin on one side of the operating threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutcomeCount {
    /// Full hours since 1970 UTC.
    pub hour: i64,
    /// What is known of their labels.
    pub label: Label,
    /// The smallest of their scores; NaN when they have none.
    pub score: f64,
    /// Rows, 1 or more.
    pub rows: u64,
}
