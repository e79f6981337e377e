//! Many tests at once: p-values made larger so that they can be compared with one level.
//!
//! * [`bonferroni`] bounds the probability of any false alarm, whatever the tests have to do with each other.
//! * [`benjamini_hochberg`] bounds the expected share of false ones among the alarms, for independent tests or tests that rise
//!   together; [`benjamini_yekutieli`] for any.
//!
//! All keep the order of their input; p-values are 0 to 1. Sources: Benjamini and Hochberg, JRSS B 57(1), 1995; Benjamini and
//! Yekutieli, Annals of Statistics 29(4), 2001. Convention: scipy's `false_discovery_control`.

/// Each p-value times their number, at most 1.
pub fn bonferroni(p: &[f64]) -> Vec<f64> {
    let tests = p.len() as f64;
    p.iter().map(|p| (p * tests).min(1.0)).collect()
}

/// Benjamini and Hochberg's adjusted p-values.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    stepped_up(p, 1.0)
}

/// Benjamini and Yekutieli's: those times `1 + 1/2 + … + 1/n`.
pub fn benjamini_yekutieli(p: &[f64]) -> Vec<f64> {
    let harmonic: f64 = (1..=p.len()).map(|rank| 1.0 / rank as f64).sum();
    stepped_up(p, harmonic)
}

fn stepped_up(p: &[f64], factor: f64) -> Vec<f64> {
    let tests = p.len() as f64;
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut least = 1.0_f64;
    for (rank, index) in order.iter().enumerate().rev() {
        least = least.min(p[*index] * tests / (rank + 1) as f64 * factor);
        adjusted[*index] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_computed_example() {
        let p = [0.04, 0.01, 0.03];
        let near = |got: Vec<f64>, want: [f64; 3]| {
            for (got, want) in got.iter().zip(want) {
                assert!((got - want).abs() < 1e-15, "{got} {want}");
            }
        };
        near(bonferroni(&p), [0.12, 0.03, 0.09]);
        near(benjamini_hochberg(&p), [0.04, 0.03, 0.04]);
        let h = 11.0 / 6.0;
        near(benjamini_yekutieli(&p), [0.04 * h, 0.03 * h, 0.04 * h]);
        assert!(benjamini_hochberg(&[]).is_empty());
        assert_eq!(benjamini_hochberg(&[1.0, 1.0]), [1.0, 1.0]);
    }
}
