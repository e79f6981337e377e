//! Whether rows of the two files can be told apart by all features together: what no single feature shows.

use std::collections::HashMap;

use drift_stats::Unusable;
use drift_stats::domain_classifier::DomainClassifier;
use drift_stats::pca;
use drift_stats::profile::Values;
use drift_stats::samples::Pair;
use drift_stats::samples::mann_whitney::{self, Alternative};
use transactions::Column;

use super::document::{Part, Reconstruction, Together};

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

    /// Rows of the numeric columns that have a mean, which stands for what is missing or infinite.
    fn number_rows(&self, means: &[Option<f64>]) -> Vec<Vec<f64>> {
        let columns: Vec<(&Vec<f64>, f64)> = self
            .columns
            .iter()
            .zip(means)
            .filter_map(|(column, mean)| match column {
                Kept::Numbers(numbers) => Some((numbers, (*mean)?)),
                Kept::Levels { .. } => None,
            })
            .collect();
        let filled = |value: f64, mean: f64| if value.is_finite() { value } else { mean };
        let rows = columns.first().map_or(0, |(numbers, _)| numbers.len());
        (0..rows)
            .map(|row| {
                columns
                    .iter()
                    .map(|(numbers, mean)| filled(numbers[row], *mean))
                    .collect()
            })
            .collect()
    }

    fn rows(&self) -> u64 {
        self.values().first().map_or(0, Values::len) as u64
    }
}

impl Kept {
    /// The mean of the finite numbers; `None` of levels, or without any.
    fn mean(&self) -> Option<f64> {
        let Self::Numbers(numbers) = self else { return None };
        let finite: Vec<f64> = numbers
            .iter()
            .copied()
            .filter(|number| number.is_finite())
            .collect();
        (!finite.is_empty()).then(|| finite.iter().sum::<f64>() / finite.len() as f64)
    }

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
        reconstruction: reconstruction(reference, current).ok(),
    })
}

/// Share of the variance that principal components keep, as NannyML does.
const VARIANCE_KEPT: f64 = 0.65;

/// How badly the numbers fit the correlations of the reference. Missing ones count as the reference's mean.
fn reconstruction(reference: &EvenRows, current: &EvenRows) -> Result<Reconstruction, Unusable> {
    let means: Vec<Option<f64>> = reference.columns.iter().map(Kept::mean).collect();
    if means.iter().flatten().count() < 2 {
        return Err(Unusable::Constant);
    }
    let all = reference.number_rows(&means);
    let half = |odd: usize| -> Vec<Vec<f64>> { all.iter().skip(odd).step_by(2).cloned().collect() };
    let fitted = pca::Reconstruction::fit(&half(0), VARIANCE_KEPT)?;
    let errors = |rows: &[Vec<f64>]| {
        rows.iter()
            .map(|row| fitted.error(row))
            .collect::<Result<Vec<f64>, _>>()
    };
    let (before, now) = (errors(&half(1))?, errors(&current.number_rows(&means))?);
    let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len() as f64;
    let pair = Pair::new(&before, &now)?;
    Ok(Reconstruction {
        components: fitted.components(),
        reference: mean(&before),
        current: mean(&now),
        p_value: mann_whitney::p_value(&pair, Alternative::TwoSided).p,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_no_longer_move_together_are_rebuilt_worse() {
        let draw = |row: u32, salt: u32| {
            let mut state = row.wrapping_mul(2_654_435_761) ^ salt.wrapping_mul(0x9e37_79b9);
            state = (state ^ (state >> 15)).wrapping_mul(0x85eb_ca6b);
            state = (state ^ (state >> 13)).wrapping_mul(0xc2b2_ae35);
            f64::from(state ^ (state >> 16)) / f64::from(u32::MAX)
        };
        let table = |from: u32, together: bool| {
            let rows = || from..from + 2_000;
            let mut kept = EvenRows::of(2_000);
            kept.add(&[
                Column::Numeric(rows().map(|row| draw(row, 1)).collect()),
                Column::Numeric(
                    rows()
                        .map(|row| draw(row, if together { 1 } else { 2 }) + draw(row, 3) * 0.1)
                        .collect(),
                ),
                Column::Numeric(
                    rows()
                        .map(|row| if row % 50 == 0 { f64::NAN } else { draw(row, 4) })
                        .collect(),
                ),
                Column::Category {
                    codes: rows().map(|row| row % 2).collect(),
                    levels: vec!["even".to_owned(), "odd".to_owned()],
                },
            ]);
            kept
        };
        let reference = table(0, true);
        let same = reconstruction(&reference, &table(10_000, true)).unwrap();
        let apart = reconstruction(&reference, &table(10_000, false)).unwrap();
        assert!(
            same.p_value > 0.001 && (same.current / same.reference - 1.0).abs() < 0.1,
            "{same:?}"
        );
        assert!(
            apart.p_value < 1e-6 && apart.current > apart.reference * 1.2,
            "{apart:?}"
        );
        assert!(apart.components < 3, "{apart:?}");
        let mut texts = EvenRows::of(10);
        texts.add(&[Column::Category {
            codes: vec![0; 10],
            levels: vec!["a".to_owned()],
        }]);
        assert_eq!(reconstruction(&texts, &texts), Err(Unusable::Constant));
    }

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
