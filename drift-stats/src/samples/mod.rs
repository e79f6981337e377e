//! Distances and tests on raw values of two samples: exact, and as costly as sorting them once.
//!
//! [`Pair`] sorts; every statistic is then one walk over the distinct values. Missing values (NaN) are left out before, as the
//! peers do; how many there were is a feature of its own (see [`crate::profile`]). A test gives a [`Test`]: its statistic and the
//! probability of one at least as large without any change.

pub mod anderson_darling;
pub mod cramer_von_mises;
pub mod energy;
pub mod kolmogorov_smirnov;
pub mod mann_whitney;
pub mod student;
pub mod wasserstein;

use crate::{Sample, Unusable};

/// What a test found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// On the test's own scale.
    pub statistic: f64,
    /// Probability of a statistic at least as extreme if both samples come from one population, 0 to 1.
    pub p: f64,
}

/// Two samples in ascending order, without missing values; each has one value or more.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    reference: Vec<f64>,
    current: Vec<f64>,
}

/// A distinct value of a pair and how often it is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The value.
    pub value: f64,
    /// Values of the reference that equal it, count.
    pub in_reference: u64,
    /// Values of the current sample that equal it, count.
    pub in_current: u64,
    /// Values of the reference up to and with it, count.
    pub up_to_reference: u64,
    /// Values of the current sample up to and with it, count.
    pub up_to_current: u64,
}

impl Step {
    /// Values of both that equal it, count.
    pub const fn ties(&self) -> u64 {
        self.in_reference + self.in_current
    }
}

fn sorted(values: &[f64], sample: Sample) -> Result<Vec<f64>, Unusable> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    if sorted.is_empty() {
        return Err(Unusable::TooFewValues {
            sample,
            values: 0,
            min: 1,
        });
    }
    sorted.sort_unstable_by(f64::total_cmp);
    Ok(sorted)
}

impl Pair {
    /// Two samples; NaN is missing.
    ///
    /// # Errors
    /// [`Unusable::TooFewValues`] when a sample has none.
    pub fn new(reference: &[f64], current: &[f64]) -> Result<Self, Unusable> {
        Ok(Self {
            reference: sorted(reference, Sample::Reference)?,
            current: sorted(current, Sample::Current)?,
        })
    }

    /// The reference in ascending order.
    pub fn reference(&self) -> &[f64] {
        &self.reference
    }

    /// The current sample in ascending order.
    pub fn current(&self) -> &[f64] {
        &self.current
    }

    /// Values of each.
    pub fn sizes(&self) -> (u64, u64) {
        (self.reference.len() as u64, self.current.len() as u64)
    }

    /// Fails unless all values are finite, as whatever subtracts them must have.
    ///
    /// # Errors
    /// [`Unusable::NotFinite`].
    pub fn expect_finite(&self) -> Result<(), Unusable> {
        let ends = [
            self.reference.first(),
            self.reference.last(),
            self.current.first(),
            self.current.last(),
        ];
        if ends.into_iter().flatten().all(|value| value.is_finite()) {
            Ok(())
        } else {
            Err(Unusable::NotFinite)
        }
    }

    /// The distinct values in ascending order; 0 and −0 are one.
    pub fn steps(&self) -> Steps<'_> {
        Steps {
            pair: self,
            reference: 0,
            current: 0,
        }
    }

    /// The gaps between neighbours: width, and the two distribution functions in them.
    fn gaps(&self) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        let (n, m) = (self.reference.len() as f64, self.current.len() as f64);
        let mut steps = self.steps();
        let mut before = steps.next();
        std::iter::from_fn(move || {
            let step = before?;
            let next = steps.next()?;
            before = Some(next);
            Some((
                next.value - step.value,
                step.up_to_reference as f64 / n,
                step.up_to_current as f64 / m,
            ))
        })
    }
}

/// See [`Pair::steps`].
#[derive(Debug, Clone)]
pub struct Steps<'a> {
    pair: &'a Pair,
    reference: usize,
    current: usize,
}

impl Iterator for Steps<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let (reference, current) = (&self.pair.reference, &self.pair.current);
        let value = match (reference.get(self.reference), current.get(self.current)) {
            (Some(r), Some(c)) => r.min(*c),
            (Some(only), None) | (None, Some(only)) => *only,
            (None, None) => return None,
        };
        let (r, c) = (self.reference, self.current);
        while reference.get(self.reference).is_some_and(|next| *next <= value) {
            self.reference += 1;
        }
        while current.get(self.current).is_some_and(|next| *next <= value) {
            self.current += 1;
        }
        Some(Step {
            value,
            in_reference: (self.reference - r) as u64,
            in_current: (self.current - c) as u64,
            up_to_reference: self.reference as u64,
            up_to_current: self.current as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_the_distinct_values_of_both() {
        let pair = Pair::new(&[2.0, f64::NAN, 1.0, 2.0], &[-0.0, 0.0, 2.0, f64::INFINITY]).unwrap();
        let steps: Vec<(f64, u64, u64, u64, u64)> = pair
            .steps()
            .map(|step| {
                (
                    step.value,
                    step.in_reference,
                    step.in_current,
                    step.up_to_reference,
                    step.up_to_current,
                )
            })
            .collect();
        assert_eq!(
            steps,
            [
                (0.0, 0, 2, 0, 2),
                (1.0, 1, 0, 1, 2),
                (2.0, 2, 1, 3, 3),
                (f64::INFINITY, 0, 1, 3, 4)
            ]
        );
        assert_eq!(pair.sizes(), (3, 4));
        assert_eq!(pair.expect_finite(), Err(Unusable::NotFinite));
    }

    #[test]
    fn a_sample_without_values_has_a_reason() {
        let nothing = Pair::new(&[1.0], &[f64::NAN]);
        assert_eq!(
            nothing,
            Err(Unusable::TooFewValues {
                sample: Sample::Current,
                values: 0,
                min: 1
            })
        );
    }
}
