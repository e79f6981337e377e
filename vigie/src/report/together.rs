//! Whether rows of the two files can be told apart by all features together: what no single feature shows.

use std::collections::HashMap;

use drift_stats::Unusable;
use drift_stats::domain_classifier::DomainClassifier;
use drift_stats::profile::Values;
use transactions::Column;

use super::document::{Part, Together};

/// Rows of each file that are learnt from, at most: spread evenly over the file.
const ROWS: u64 = 5_000;
/// Features that are named.
const NAMED_MAX: usize = 5;

/// Every so manieth row of a file.
#[derive(Debug)]
pub struct EvenRows {
    stride: u64,
    seen: u64,
    columns: Vec<Kept>,
}

#[derive(Debug)]
enum Kept {
    Numbers(Vec<f64>),
    Levels {
        codes: Vec<u32>,
        levels: Vec<String>,
        known: HashMap<String, u32>,
    },
}

impl EvenRows {
    /// Of a file with so many rows.
    pub const fn of(rows: u64) -> Self {
        Self {
            stride: if rows > ROWS { rows.div_ceil(ROWS) } else { 1 },
            seen: 0,
            columns: Vec::new(),
        }
    }

    /// The next rows of the file.
    pub fn add(&mut self, columns: &[Column]) {
        if self.columns.is_empty() {
            self.columns = columns
                .iter()
                .map(|column| match column {
                    Column::Numeric(_) => Kept::Numbers(Vec::new()),
                    Column::Category { .. } => Kept::Levels {
                        codes: Vec::new(),
                        levels: Vec::new(),
                        known: HashMap::new(),
                    },
                })
                .collect();
        }
        let rows = columns.first().map_or(0, Column::len);
        let skip = (self.stride - self.seen % self.stride) % self.stride;
        let stride = usize::try_from(self.stride).unwrap_or(usize::MAX);
        for at in (usize::try_from(skip).unwrap_or(usize::MAX)..rows).step_by(stride) {
            for (kept, column) in self.columns.iter_mut().zip(columns) {
                kept.push(column, at);
            }
        }
        self.seen += rows as u64;
    }

    fn values(&self) -> Vec<Values<'_>> {
        self.columns.iter().map(Kept::values).collect()
    }

    fn rows(&self) -> u64 {
        self.values().first().map_or(0, Values::len) as u64
    }
}

impl Kept {
    fn values(&self) -> Values<'_> {
        match self {
            Self::Numbers(numbers) => Values::Numbers(numbers),
            Self::Levels { codes, levels, .. } => Values::Levels { codes, levels },
        }
    }

    fn push(&mut self, column: &Column, at: usize) {
        match (self, column) {
            (Self::Numbers(kept), Column::Numeric(numbers)) => kept.push(numbers[at]),
            (
                Self::Levels { codes, levels, known },
                Column::Category {
                    codes: from,
                    levels: names,
                },
            ) => {
                let code = names.get(from[at] as usize).map_or(Column::MISSING, |name| {
                    known.get(name).copied().unwrap_or_else(|| {
                        let code = levels.len() as u32;
                        levels.push(name.clone());
                        known.insert(name.clone(), code);
                        code
                    })
                });
                codes.push(code);
            }
            // A column is of one kind in all batches of a file.
            _ => {}
        }
    }
}

/// Learns to tell the files apart.
///
/// # Errors
/// [`Unusable`] when they have too few rows for it.
pub fn told_apart(names: &[String], reference: &EvenRows, current: &EvenRows) -> Result<Together, Unusable> {
    let found = DomainClassifier::default().separate(&reference.values(), &current.values())?;
    let mut features: Vec<Part> = names
        .iter()
        .zip(found.importance)
        .filter(|(_, part)| *part > 0.0)
        .map(|(name, part)| Part {
            feature: name.clone(),
            part,
        })
        .collect();
    features.sort_by(|a, b| b.part.total_cmp(&a.part).then(a.feature.cmp(&b.feature)));
    features.truncate(NAMED_MAX);
    Ok(Together {
        rows: [reference.rows(), current.rows()],
        auc: found.auc,
        interval: [found.interval.low, found.interval.high],
        features,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_spread_evenly_however_the_file_is_read() {
        let column = |from: u32, until: u32| {
            [
                Column::Numeric((from..until).map(f64::from).collect()),
                Column::Category {
                    codes: (from..until).map(|row| row % 2).collect(),
                    levels: vec!["even".to_owned(), "odd".to_owned()],
                },
            ]
        };
        let mut whole = EvenRows::of(12_000);
        whole.add(&column(0, 12_000));
        let mut parts = EvenRows::of(12_000);
        for from in (0..12_000).step_by(7) {
            parts.add(&column(from, (from + 7).min(12_000)));
        }
        for rows in [&whole, &parts] {
            let values = rows.values();
            let Values::Numbers(numbers) = values[0] else {
                panic!("numbers")
            };
            assert_eq!(
                (numbers.len(), numbers[1], numbers[3_999]),
                (4_000, 3.0, 11_997.0)
            );
            assert_eq!(values[1].len(), 4_000);
        }
    }
}
