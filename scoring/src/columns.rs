//! Raw columns as they come from a source.

/// In [`Column::Category`]: the value is missing.
pub const MISSING: u32 = u32::MAX;

/// One column of rows to score.
#[derive(Debug, Clone, Copy)]
pub enum Column<'a> {
    /// Numbers; NaN (or any number that is not finite) is a missing value.
    Numeric(&'a [f64]),
    /// Categories as positions in a dictionary; [`MISSING`] is a missing value.
    Category {
        /// One per row: position in `dictionary`, or [`MISSING`].
        codes: &'a [u32],
        /// The texts that occur, in any order.
        dictionary: &'a [String],
    },
    /// Categories as texts; `None` is a missing value.
    Text(&'a [Option<String>]),
}

impl Column<'_> {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Numeric(values) => values.len(),
            Self::Category { codes, .. } => codes.len(),
            Self::Text(values) => values.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Named columns of equal length.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    pub(crate) count: usize,
    pub(crate) columns: Vec<(&'a str, Column<'a>)>,
}

impl<'a> Rows<'a> {
    /// An empty set of columns for `count` rows.
    pub fn new(count: usize) -> Self {
        Self {
            count,
            columns: Vec::new(),
        }
    }

    /// Adds a column.
    ///
    /// # Errors
    /// [`ScoreError::Length`] when it does not have one value per row.
    pub fn with(mut self, name: &'a str, column: Column<'a>) -> Result<Self, ScoreError> {
        if column.len() != self.count {
            return Err(ScoreError::Length {
                column: name.to_owned(),
                found: column.len(),
                rows: self.count,
            });
        }
        self.columns.push((name, column));
        Ok(self)
    }

    /// Number of rows.
    pub const fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn column(&self, name: &str) -> Result<Column<'a>, ScoreError> {
        let found = self.columns.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, column)| *column)
            .ok_or_else(|| ScoreError::ColumnMissing {
                column: name.to_owned(),
            })
    }
}

/// Why rows cannot be scored. A column that is not there is an error, never a column of missing values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// The model reads a column that the rows do not have.
    #[error("column `{column}`, which the model reads, is not there")]
    ColumnMissing {
        /// The column.
        column: String,
    },
    /// Numbers where the model has categories, or the other way round.
    #[error("column `{column}` is {found}, the model was trained on {expected}")]
    Kind {
        /// The column.
        column: String,
        /// What the rows have.
        found: &'static str,
        /// What the model reads.
        expected: &'static str,
    },
    /// A column has not one value per row.
    #[error("column `{column}` has {found} values for {rows} rows")]
    Length {
        /// The column.
        column: String,
        /// Its length.
        found: usize,
        /// Rows.
        rows: usize,
    },
    /// A category code points outside its dictionary.
    #[error("column `{column}` holds category code {code}, its dictionary has {entries} entries")]
    Code {
        /// The column.
        column: String,
        /// The code.
        code: u32,
        /// Size of the dictionary.
        entries: usize,
    },
}
