//! Energy distance: `√(2 ∫ (F − G)² dx)`, in the root of the unit of the values, 0 or more.
//!
//! Twice the mean distance between the samples less the mean distances within each, under the root. More even than Wasserstein
//! over the range of the values. Source: Székely and Rizzo, "Energy statistics", JSPI 143(8), 2013; scipy's `energy_distance`.

use super::Pair;
use crate::Unusable;

/// The distance.
///
/// # Errors
/// [`Unusable::NotFinite`] for infinite values, or a distance beyond the largest number.
pub fn distance(pair: &Pair) -> Result<f64, Unusable> {
    pair.expect_finite()?;
    let integral: f64 = pair.gaps().map(|(width, f, g)| (f - g) * (f - g) * width).sum();
    let distance = (2.0 * integral).sqrt();
    if distance.is_finite() {
        Ok(distance)
    } else {
        Err(Unusable::NotFinite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_its_name_says() {
        let (x, y) = ([0.0, 1.0, 5.0], [2.0, 2.0, 7.0, 9.0]);
        let mean = |a: &[f64], b: &[f64]| {
            let all = a.iter().flat_map(|u| b.iter().map(move |v| (u - v).abs()));
            all.sum::<f64>() / (a.len() * b.len()) as f64
        };
        let want = 2.0 * mean(&x, &y) - mean(&x, &x) - mean(&y, &y);
        let got = distance(&Pair::new(&x, &y).unwrap()).unwrap();
        assert!((got * got - want).abs() < 1e-12);
    }
}
