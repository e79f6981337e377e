//! Wasserstein-1: how far the values of one sample must be moved, on average, to become the other.
//!
//! `W₁ = ∫ |F − G| dx`, in the unit of the values, 0 or more; one huge outlier moves it as it moves a mean. [`normed`] divides by
//! the reference's standard deviation (n), at least 0.001, as evidently does: then 0.1 is a tenth of a standard deviation.
//!
//! Source: Vaserstein 1969; for one dimension Vallender 1974. Convention: scipy's `wasserstein_distance`.

use super::Pair;
use crate::Unusable;

/// Smallest standard deviation that [`normed`] divides by.
const DEVIATION_MIN: f64 = 0.001;

/// The distance in the unit of the values.
///
/// # Errors
/// [`Unusable::NotFinite`] for infinite values, or a distance beyond the largest number.
pub fn distance(pair: &Pair) -> Result<f64, Unusable> {
    pair.expect_finite()?;
    let distance: f64 = pair.gaps().map(|(width, f, g)| (f - g).abs() * width).sum();
    if distance.is_finite() {
        Ok(distance)
    } else {
        Err(Unusable::NotFinite)
    }
}

/// The distance in standard deviations of the reference.
///
/// # Errors
/// As [`distance`].
pub fn normed(pair: &Pair) -> Result<f64, Unusable> {
    let distance = distance(pair)?;
    let values = pair.reference();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values
        .iter()
        .map(|value| (value - mean) * (value - mean))
        .sum::<f64>()
        / n;
    let normed = distance / variance.sqrt().max(DEVIATION_MIN);
    if normed.is_finite() {
        Ok(normed)
    } else {
        Err(Unusable::NotFinite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_its_own_distance() {
        let pair = Pair::new(&[0.0, 1.0, 3.0], &[5.0, 6.0, 8.0]).unwrap();
        assert!((distance(&pair).unwrap() - 5.0).abs() < 1e-12);
        let constant = Pair::new(&[2.0, 2.0], &[2.5]).unwrap();
        assert_eq!(distance(&constant), Ok(0.5));
        assert_eq!(normed(&constant), Ok(500.0));
        let infinite = Pair::new(&[2.0], &[f64::INFINITY]).unwrap();
        assert_eq!(distance(&infinite), Err(Unusable::NotFinite));
    }
}
