//! Isotonic regression: the non-decreasing curve that fits labels best, for turning scores into probabilities.
//!
//! Pool adjacent violators: equal scores are averaged first, then neighbours whose means fall are merged until none do. Between the
//! ends of its steps the curve is linear, outside of them constant. Values lie within those of the labels.
//!
//! Sources: Barlow, Bartholomew, Bremner and Brunk 1972; for probabilities Zadrozny and Elkan, KDD 2002. Convention: scikit-learn's
//! `IsotonicRegression(out_of_bounds="clip")`.

use serde::{Deserialize, Serialize};

use crate::proportion::Rate;
use crate::{Sample, Unusable};

/// A fitted curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isotonic {
    /// Scores at which the curve bends, ascending.
    scores: Vec<f64>,
    /// Its values there, not decreasing.
    values: Vec<f64>,
}

/// Neighbouring scores that share one value.
struct Block {
    first: f64,
    last: f64,
    sum: f64,
    weight: f64,
}

impl Block {
    fn mean(&self) -> f64 {
        self.sum / self.weight
    }
}

impl Isotonic {
    /// Fits the curve to scores and the numbers that were observed at them.
    ///
    /// # Errors
    /// [`Unusable`] when there is no row, the lists differ in length, or a number is not finite.
    pub fn fit(scores: &[f64], observed: &[f64]) -> Result<Self, Unusable> {
        if scores.len() != observed.len() {
            return Err(Unusable::LengthsDiffer {
                scores: scores.len(),
                labels: observed.len(),
            });
        }
        if scores.is_empty() {
            return Err(Unusable::TooFewValues {
                sample: Sample::Reference,
                values: 0,
                min: 1,
            });
        }
        if scores.iter().chain(observed).any(|number| !number.is_finite()) {
            return Err(Unusable::NotFinite);
        }
        let mut rows: Vec<(f64, f64)> = scores.iter().copied().zip(observed.iter().copied()).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let alike = rows.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq());
        Ok(Self::pooled(alike.map(|alike| Block {
            first: alike[0].0,
            last: alike[0].0,
            sum: alike.iter().map(|(_, observed)| observed).sum(),
            weight: alike.len() as f64,
        })))
    }

    /// Fits the curve to rates that were observed in groups of rows, each at one score; the scores ascend. Groups without a row say
    /// nothing.
    ///
    /// # Errors
    /// [`Unusable`] when no group has a row, or a score is not finite.
    pub fn fit_rates(groups: &[(f64, Rate)]) -> Result<Self, Unusable> {
        if groups.iter().any(|(score, _)| !score.is_finite()) {
            return Err(Unusable::NotFinite);
        }
        let known = || groups.iter().filter(|(_, rate)| rate.of > 0);
        if known().next().is_none() {
            return Err(Unusable::TooFewValues {
                sample: Sample::Reference,
                values: 0,
                min: 1,
            });
        }
        Ok(Self::pooled(known().map(|(score, rate)| Block {
            first: *score,
            last: *score,
            sum: rate.hits as f64,
            weight: rate.of as f64,
        })))
    }

    /// The curve of groups in the order of their scores.
    fn pooled(groups: impl Iterator<Item = Block>) -> Self {
        let mut blocks: Vec<Block> = Vec::new();
        for mut block in groups {
            while let Some(before) = blocks.pop_if(|before| before.mean() >= block.mean()) {
                block = Block {
                    first: before.first,
                    last: block.last,
                    sum: before.sum + block.sum,
                    weight: before.weight + block.weight,
                };
            }
            blocks.push(block);
        }
        let (mut curve, mut values) = (Vec::new(), Vec::new());
        for block in &blocks {
            curve.push(block.first);
            values.push(block.mean());
            if block.last > block.first {
                curve.push(block.last);
                values.push(block.mean());
            }
        }
        Self {
            scores: curve,
            values,
        }
    }

    /// The curve's value at a score; that of the nearest end outside of what it was fitted to.
    pub fn at(&self, score: f64) -> f64 {
        let after = self.scores.partition_point(|known| *known <= score);
        if after == 0 {
            return self.values[0];
        }
        if after == self.scores.len() {
            return self.values[after - 1];
        }
        let (low, high) = (self.scores[after - 1], self.scores[after]);
        let share = (score - low) / (high - low);
        self.values[after - 1] + share * (self.values[after] - self.values[after - 1])
    }

    /// The points at which it bends: scores and values.
    pub fn knots(&self) -> (&[f64], &[f64]) {
        (&self.scores, &self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violators_are_pooled_and_the_rest_is_kept() {
        let curve = Isotonic::fit(&[1.0, 2.0, 3.0, 4.0, 4.0], &[0.0, 1.0, 0.0, 1.0, 0.0]).unwrap();
        let (scores, values) = curve.knots();
        assert_eq!(scores, [1.0, 2.0, 4.0]);
        assert_eq!(values, [0.0, 0.5, 0.5]);
        for (score, value) in [(0.0, 0.0), (1.5, 0.25), (3.0, 0.5), (9.0, 0.5)] {
            assert_eq!(curve.at(score), value);
        }
    }

    #[test]
    fn groups_count_as_their_rows() {
        let (scores, observed) = (
            [0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 5.0],
            [0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0],
        );
        let rate = |hits, of| Rate { hits, of };
        let groups = [
            (0.0, rate(1, 2)),
            (1.0, rate(0, 1)),
            (2.0, rate(2, 3)),
            (3.0, rate(0, 0)),
            (5.0, rate(1, 1)),
        ];
        assert_eq!(Isotonic::fit_rates(&groups), Isotonic::fit(&scores, &observed));
        assert!(Isotonic::fit_rates(&[(0.0, rate(0, 0))]).is_err());
        assert_eq!(
            Isotonic::fit_rates(&[(f64::NAN, rate(0, 1))]),
            Err(Unusable::NotFinite)
        );
    }

    #[test]
    fn what_cannot_be_fitted_has_a_reason() {
        assert!(matches!(
            Isotonic::fit(&[], &[]),
            Err(Unusable::TooFewValues { .. })
        ));
        assert!(matches!(
            Isotonic::fit(&[1.0], &[]),
            Err(Unusable::LengthsDiffer { .. })
        ));
        assert_eq!(Isotonic::fit(&[f64::NAN], &[1.0]), Err(Unusable::NotFinite));
        let constant = Isotonic::fit(&[2.0, 2.0], &[1.0, 0.0]).unwrap();
        assert_eq!((constant.at(-1.0), constant.at(7.0)), (0.5, 0.5));
    }
}
