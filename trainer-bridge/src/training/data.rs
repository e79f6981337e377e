//! Slices of labelled rows, column by column.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use scoring::{Column, Rows, ScoreError};

/// Labelled rows of one span of time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Slice {
    /// The feature columns, all of the labels' length.
    pub columns: Vec<NamedColumn>,
    /// Whether the row was fraud; only rows whose label was known are here.
    pub labels: Vec<bool>,
}

/// One feature's values.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedColumn {
    /// The feature.
    pub name: String,
    /// One value per row.
    pub values: Values,
}

/// Values of one kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Numbers in the column's own unit; NaN is missing.
    Numeric(Vec<f64>),
    /// Categories.
    Category {
        /// Position in `dictionary`, or [`scoring::MISSING`].
        codes: Vec<u32>,
        /// The texts that occur.
        dictionary: Vec<String>,
    },
}

impl Values {
    fn picked(&self, rows: &[usize]) -> Self {
        match self {
            Self::Numeric(values) => Self::Numeric(rows.iter().map(|row| values[*row]).collect()),
            Self::Category { codes, dictionary } => Self::Category {
                codes: rows.iter().map(|row| codes[*row]).collect(),
                dictionary: dictionary.clone(),
            },
        }
    }
}

/// A slice holds too little to train or to choose on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooLittle {
    /// Too few labelled rows.
    #[error("the {slice} slice has {rows} labelled rows, {min} are needed")]
    Rows {
        /// `training` or `threshold`.
        slice: &'static str,
        /// Rows found.
        rows: usize,
        /// Rows needed.
        min: usize,
    },
    /// Too few frauds, or too few genuine rows.
    #[error("the {slice} slice has {found} {class} rows, {min} are needed")]
    Class {
        /// `training` or `threshold`.
        slice: &'static str,
        /// `fraud` or `genuine`.
        class: &'static str,
        /// Rows found.
        found: usize,
        /// Rows needed.
        min: usize,
    },
    /// A feature without any value.
    #[error("feature `{feature}` has no value in the training slice")]
    NoValue {
        /// The feature.
        feature: String,
    },
}

impl Slice {
    /// Rows.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Rows that were fraud.
    pub fn frauds(&self) -> usize {
        self.labels.iter().filter(|label| **label).count()
    }

    /// The columns as `scoring` reads them.
    ///
    /// # Errors
    /// [`ScoreError::Length`] when a column has not one value per label.
    pub fn rows(&self) -> Result<Rows<'_>, ScoreError> {
        self.columns
            .iter()
            .try_fold(Rows::new(self.len()), |rows, column| {
                let values = match &column.values {
                    Values::Numeric(values) => Column::Numeric(values),
                    Values::Category { codes, dictionary } => Column::Category { codes, dictionary },
                };
                rows.with(&column.name, values)
            })
    }

    /// Checks the least that the slice must hold.
    ///
    /// # Errors
    /// [`TooLittle`], with the numbers found and needed.
    pub fn require(&self, slice: &'static str, rows_min: usize, frauds_min: usize) -> Result<(), TooLittle> {
        if self.len() < rows_min {
            return Err(TooLittle::Rows {
                slice,
                rows: self.len(),
                min: rows_min,
            });
        }
        let frauds = self.frauds();
        for (class, found, min) in [("fraud", frauds, frauds_min), ("genuine", self.len() - frauds, 1)] {
            if found < min {
                return Err(TooLittle::Class {
                    slice,
                    class,
                    found,
                    min,
                });
            }
        }
        Ok(())
    }

    /// At most `rows_max` rows, picked evenly by `seed` and kept in order; the share of fraud stays what it
    /// was up to chance, so that scores remain probabilities.
    #[must_use]
    pub fn thinned(self, rows_max: usize, seed: u64) -> Self {
        if self.len() <= rows_max {
            return self;
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut picked = rand::seq::index::sample(&mut random, self.len(), rows_max).into_vec();
        picked.sort_unstable();
        let columns = self.columns.iter();
        Self {
            columns: columns
                .map(|column| NamedColumn {
                    name: column.name.clone(),
                    values: column.values.picked(&picked),
                })
                .collect(),
            labels: picked.iter().map(|row| self.labels[*row]).collect(),
        }
    }
}
