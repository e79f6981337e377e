//! Reconstruction error of principal components: how badly rows fit the correlations that the reference had.
//!
//! Columns are standardised with the reference's means and standard deviations (n), projected on the fewest principal components that
//! reach a share of the variance, and put back; the error of a row is the Euclidean distance between the two, in standard
//! deviations, 0 or more. A window's mean error rises when features stop moving together, which no single histogram shows. Columns
//! that do not vary in the reference are left out; missing values must be filled before.
//!
//! Source: Jolliffe, "Principal component analysis", 2002; as a drift measure NannyML's. Eigenvectors by Jacobi's rotations.

use crate::{Sample, Unusable};

/// A fitted projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Reconstruction {
    /// For each column its mean and standard deviation; none when it does not vary.
    scales: Vec<Option<(f64, f64)>>,
    /// Orthonormal, over the columns that vary.
    components: Vec<Vec<f64>>,
}

impl Reconstruction {
    /// Fits it to rows of the reference, keeping the fewest components with at least `variance_kept` of the variance, above 0 and at
    /// most 1.
    ///
    /// # Errors
    /// [`Unusable`] when there are fewer than two rows, a row has another length or a number that is not finite, or nothing varies.
    pub fn fit(rows: &[Vec<f64>], variance_kept: f64) -> Result<Self, Unusable> {
        if !(variance_kept > 0.0 && variance_kept <= 1.0) {
            return Err(Unusable::OutsideRange { low: 0.0, high: 1.0 });
        }
        let Some(first) = rows.first().filter(|_| rows.len() > 1) else {
            return Err(Unusable::TooFewValues {
                sample: Sample::Reference,
                values: rows.len() as u64,
                min: 2,
            });
        };
        for row in rows {
            expect_row(row, first.len())?;
        }
        let n = rows.len() as f64;
        let scales: Vec<Option<(f64, f64)>> = (0..first.len())
            .map(|column| {
                let mean = rows.iter().map(|row| row[column]).sum::<f64>() / n;
                let variance = rows.iter().map(|row| (row[column] - mean).powi(2)).sum::<f64>() / n;
                (variance > 0.0).then(|| (mean, variance.sqrt()))
            })
            .collect();
        let standard: Vec<Vec<f64>> = rows.iter().map(|row| standardised(row, &scales)).collect();
        let columns = scales.iter().flatten().count();
        if columns == 0 {
            return Err(Unusable::Constant);
        }
        let covariance: Vec<Vec<f64>> = (0..columns)
            .map(|i| {
                (0..columns)
                    .map(|j| standard.iter().map(|row| row[i] * row[j]).sum::<f64>() / n)
                    .collect()
            })
            .collect();
        let mut pairs = eigenpairs(covariance);
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let whole: f64 = pairs.iter().map(|(value, _)| value).sum();
        let (mut reached, mut components) = (0.0, Vec::new());
        for (value, vector) in pairs {
            if !components.is_empty() && reached / whole >= variance_kept {
                break;
            }
            reached += value;
            components.push(vector);
        }
        Ok(Self { scales, components })
    }

    /// Components that were kept, 1 or more.
    pub const fn components(&self) -> usize {
        self.components.len()
    }

    /// The error of one row, 0 or more.
    ///
    /// # Errors
    /// [`Unusable`] when the row has another length or a number that is not finite.
    pub fn error(&self, row: &[f64]) -> Result<f64, Unusable> {
        expect_row(row, self.scales.len())?;
        let standard = standardised(row, &self.scales);
        let mut left = standard.clone();
        for component in &self.components {
            let along: f64 = standard.iter().zip(component).map(|(x, c)| x * c).sum();
            for (rest, c) in left.iter_mut().zip(component) {
                *rest -= along * c;
            }
        }
        Ok(left.iter().map(|rest| rest * rest).sum::<f64>().sqrt())
    }

    /// The mean error of a window's rows.
    ///
    /// # Errors
    /// As [`Self::error`]; `TooFewValues` without rows.
    pub fn mean_error(&self, rows: &[Vec<f64>]) -> Result<f64, Unusable> {
        if rows.is_empty() {
            return Err(Unusable::TooFewValues {
                sample: Sample::Current,
                values: 0,
                min: 1,
            });
        }
        let mut sum = 0.0;
        for row in rows {
            sum += self.error(row)?;
        }
        Ok(sum / rows.len() as f64)
    }
}

fn expect_row(row: &[f64], columns: usize) -> Result<(), Unusable> {
    if row.len() != columns {
        return Err(Unusable::BinsDiffer);
    }
    if row.iter().all(|value| value.is_finite()) {
        Ok(())
    } else {
        Err(Unusable::NotFinite)
    }
}

/// The columns that vary, in standard deviations from their means.
fn standardised(row: &[f64], scales: &[Option<(f64, f64)>]) -> Vec<f64> {
    row.iter()
        .zip(scales)
        .filter_map(|(value, scale)| scale.map(|(mean, deviation)| (value - mean) / deviation))
        .collect()
}

/// Eigenvalues and unit eigenvectors of a symmetric matrix.
fn eigenpairs(mut matrix: Vec<Vec<f64>>) -> Vec<(f64, Vec<f64>)> {
    let n = matrix.len();
    let mut vectors: Vec<Vec<f64>> = (0..n)
        .map(|i| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect())
        .collect();
    // Some six sweeps are enough; the bound only guards against a loop without end.
    for _ in 0..100 {
        let off: f64 = (0..n)
            .flat_map(|i| (i + 1..n).map(move |j| (i, j)))
            .map(|(i, j)| matrix[i][j] * matrix[i][j])
            .sum();
        if off < 1e-30 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if matrix[p][q].abs() < 1e-300 {
                    continue;
                }
                let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * matrix[p][q]);
                let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                let sine = tangent * cosine;
                for row in &mut matrix {
                    let (a, b) = (row[p], row[q]);
                    row[p] = cosine * a - sine * b;
                    row[q] = sine * a + cosine * b;
                }
                let (above, below) = matrix.split_at_mut(q);
                for (x, y) in above[p].iter_mut().zip(&mut below[0]) {
                    (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
                }
                for row in &mut vectors {
                    let (a, b) = (row[p], row[q]);
                    row[p] = cosine * a - sine * b;
                    row[q] = sine * a + cosine * b;
                }
            }
        }
    }
    (0..n)
        .map(|at| (matrix[at][at], vectors.iter().map(|row| row[at]).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_break_the_correlation_stand_out() {
        let rows: Vec<Vec<f64>> = (0..100)
            .map(|n| {
                let x = f64::from(n % 10);
                vec![x, 2.0 * x, 7.0]
            })
            .collect();
        let fitted = Reconstruction::fit(&rows, 0.65).unwrap();
        assert_eq!(fitted.components(), 1);
        assert!(fitted.mean_error(&rows).unwrap() < 1e-12);
        assert!(fitted.error(&[0.0, 18.0, 7.0]).unwrap() > 1.0);
    }

    #[test]
    fn what_cannot_be_fitted_has_a_reason() {
        let row = vec![1.0, 2.0];
        assert!(matches!(
            Reconstruction::fit(std::slice::from_ref(&row), 0.65),
            Err(Unusable::TooFewValues { .. })
        ));
        assert_eq!(
            Reconstruction::fit(&[row.clone(), row.clone()], 0.65),
            Err(Unusable::Constant)
        );
        assert_eq!(
            Reconstruction::fit(&[row.clone(), vec![1.0]], 0.65),
            Err(Unusable::BinsDiffer)
        );
        assert_eq!(
            Reconstruction::fit(&[row.clone(), vec![1.0, f64::NAN]], 0.65),
            Err(Unusable::NotFinite)
        );
        let fitted = Reconstruction::fit(&[row, vec![2.0, 5.0]], 1.0).unwrap();
        assert!(matches!(
            fitted.mean_error(&[]),
            Err(Unusable::TooFewValues { .. })
        ));
    }
}
