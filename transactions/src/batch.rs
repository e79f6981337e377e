//! Rows as columns.

use std::collections::HashMap;

use crate::catalogue::FeatureKind;

/// What is known of a row's label, as of the instant asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Label {
    /// Not known yet, or not asked for.
    Unknown,
    /// Known to be genuine.
    Genuine,
    /// Known to be fraud.
    Fraud,
}

/// One feature of all rows of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Numbers; NaN is missing.
    Numeric(Vec<f64>),
    /// Names of categories.
    Category {
        /// Position in `levels` per row; [`Column::MISSING`] is missing.
        codes: Vec<u32>,
        /// The distinct names of this batch, in order of appearance.
        levels: Vec<String>,
    },
}

impl Column {
    /// Code of a missing category.
    pub const MISSING: u32 = u32::MAX;

    pub(crate) const fn empty(kind: FeatureKind) -> Self {
        match kind {
            FeatureKind::Numeric => Self::Numeric(Vec::new()),
            FeatureKind::Category => Self::Category {
                codes: Vec::new(),
                levels: Vec::new(),
            },
        }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Numeric(numbers) => numbers.len(),
            Self::Category { codes, .. } => codes.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers, when it is a numeric column.
    pub fn numbers(&self) -> Option<&[f64]> {
        match self {
            Self::Numeric(numbers) => Some(numbers),
            Self::Category { .. } => None,
        }
    }

    /// Some of its rows.
    #[must_use]
    pub fn of_rows(&self, rows: &[usize]) -> Self {
        match self {
            Self::Numeric(numbers) => Self::Numeric(rows.iter().map(|row| numbers[*row]).collect()),
            Self::Category { codes, levels } => Self::Category {
                codes: rows.iter().map(|row| codes[*row]).collect(),
                levels: levels.clone(),
            },
        }
    }

    /// The category of a row, `None` when it is missing or the column is numeric.
    pub fn level(&self, row: usize) -> Option<&str> {
        match self {
            Self::Numeric(_) => None,
            Self::Category { codes, levels } => codes
                .get(row)
                .and_then(|code| levels.get(*code as usize))
                .map(String::as_str),
        }
    }
}

/// Rows of one model, as columns of equal length.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Instant of each transaction, microseconds since 1970 UTC.
    pub times: Vec<i64>,
    /// The features asked for, in that order.
    pub features: Vec<Column>,
    /// What was known of each label.
    pub labels: Vec<Label>,
    /// The serving model's probability, 0 to 1; NaN is missing or not asked for.
    pub scores: Vec<f64>,
}

impl Batch {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// Rows whose label is known, and frauds among them.
    pub fn label_counts(&self) -> (u64, u64) {
        self.labels
            .iter()
            .fold((0, 0), |(labelled, frauds), label| match label {
                Label::Unknown => (labelled, frauds),
                Label::Genuine => (labelled + 1, frauds),
                Label::Fraud => (labelled + 1, frauds + 1),
            })
    }

    /// Adds the rows of another batch of the same request.
    pub fn append(&mut self, other: &Self) {
        if self.rows() == 0 {
            self.clone_from(other);
            return;
        }
        self.times.extend_from_slice(&other.times);
        self.labels.extend_from_slice(&other.labels);
        self.scores.extend_from_slice(&other.scores);
        assert_eq!(
            self.features.len(),
            other.features.len(),
            "batches of one request have the same features"
        );
        for (mine, theirs) in self.features.iter_mut().zip(&other.features) {
            match (mine, theirs) {
                (Column::Numeric(numbers), Column::Numeric(more)) => numbers.extend_from_slice(more),
                (
                    Column::Category { codes, levels },
                    Column::Category {
                        codes: more,
                        levels: names,
                    },
                ) => {
                    let known: HashMap<&str, u32> = levels
                        .iter()
                        .enumerate()
                        .map(|(at, level)| (level.as_str(), at as u32))
                        .collect();
                    let mut fresh = Vec::new();
                    let translated: Vec<u32> = names
                        .iter()
                        .map(|name| {
                            known.get(name.as_str()).copied().unwrap_or_else(|| {
                                fresh.push(name.clone());
                                (known.len() + fresh.len() - 1) as u32
                            })
                        })
                        .collect();
                    codes.extend(
                        more.iter()
                            .map(|code| translated.get(*code as usize).copied().unwrap_or(Column::MISSING)),
                    );
                    levels.append(&mut fresh);
                }
                _ => unreachable!("a feature has one kind within a request"),
            }
        }
    }

    /// The rows in another order; `order` holds each position once.
    pub(crate) fn reordered(&self, order: &[usize]) -> Self {
        fn pick<T: Copy>(values: &[T], order: &[usize]) -> Vec<T> {
            order.iter().map(|at| values[*at]).collect()
        }
        let features = self.features.iter().map(|column| match column {
            Column::Numeric(numbers) => Column::Numeric(pick(numbers, order)),
            Column::Category { codes, levels } => {
                let mut builder = CategoryBuilder::default();
                for at in order {
                    builder.push(levels.get(codes[*at] as usize).map(String::as_str));
                }
                builder.finish()
            }
        });
        Self {
            features: features.collect(),
            times: pick(&self.times, order),
            labels: pick(&self.labels, order),
            scores: pick(&self.scores, order),
        }
    }
}

/// Collects names of categories.
#[derive(Debug, Default)]
pub(crate) struct CategoryBuilder {
    codes: Vec<u32>,
    levels: Vec<String>,
    known: HashMap<String, u32>,
}

impl CategoryBuilder {
    pub(crate) fn push(&mut self, level: Option<&str>) {
        let code = level.map_or(Column::MISSING, |level| self.code_of(level));
        self.push_code(code);
    }

    /// The code of a level, which is a new one when it was not there.
    pub(crate) fn code_of(&mut self, level: &str) -> u32 {
        self.known.get(level).copied().unwrap_or_else(|| {
            let code = self.levels.len() as u32;
            self.levels.push(level.to_owned());
            self.known.insert(level.to_owned(), code);
            code
        })
    }

    /// A row with a code that was given out, or [`Column::MISSING`].
    pub(crate) fn push_code(&mut self, code: u32) {
        self.codes.push(code);
    }

    pub(crate) fn finish(self) -> Column {
        Column::Category {
            codes: self.codes,
            levels: self.levels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(levels: &[Option<&str>]) -> Batch {
        let mut builder = CategoryBuilder::default();
        for level in levels {
            builder.push(*level);
        }
        let rows = levels.len();
        Batch {
            times: (0..rows as i64).collect(),
            features: vec![builder.finish()],
            labels: vec![Label::Genuine; rows],
            scores: vec![0.5; rows],
        }
    }

    #[test]
    fn appending_translates_the_names_of_categories() {
        let mut whole = batch(&[Some("chip"), Some("online"), None]);
        whole.append(&batch(&[Some("mail"), None, Some("chip"), Some("post")]));
        assert_eq!(
            whole.features,
            batch(&[
                Some("chip"),
                Some("online"),
                None,
                Some("mail"),
                None,
                Some("chip"),
                Some("post")
            ])
            .features
        );
        let mut empty = Batch::default();
        empty.append(&whole);
        assert_eq!(empty, whole);
    }

    #[test]
    fn reordering_moves_whole_rows() {
        let turned = batch(&[Some("a"), None, Some("b")]).reordered(&[2, 0, 1]);
        assert_eq!(turned.times, [2, 0, 1]);
        assert_eq!(turned.features[0].level(0), Some("b"));
        assert_eq!(
            turned.features[0],
            batch(&[Some("b"), Some("a"), None]).features[0],
            "levels in order of appearance"
        );
    }
}
