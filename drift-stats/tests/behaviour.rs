//! What a fraud team relies on: moves are seen, noise is not, and nothing is silently zero.

use drift_stats::binning::{BinSettings, FeatureBins, NumericBins};
use drift_stats::null::{Sizes, per_test, psi_critical, psi_expected};
use drift_stats::outcome::{Known, Outcome};
use drift_stats::profile::{Profile, Values};
use drift_stats::proportion::{relative_change, two_rates};
use drift_stats::{DETECTORS, Score, Unusable};

/// A small repeatable generator for tests (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn normals(&mut self, rows: usize, mean: f64) -> Vec<f64> {
        (0..rows).map(|_| self.normal() + mean).collect()
    }
}

struct Reference {
    bins: Vec<FeatureBins>,
    profile: Profile,
}

fn reference(columns: &[Vec<f64>]) -> Reference {
    let bins: Vec<FeatureBins> = columns
        .iter()
        .map(|column| FeatureBins::Numeric(NumericBins::fit(column, &BinSettings::default())))
        .collect();
    let profile = profile(&bins, columns);
    Reference { bins, profile }
}

fn profile(bins: &[FeatureBins], columns: &[Vec<f64>]) -> Profile {
    let mut profile = Profile::empty(bins);
    let values: Vec<Values<'_>> = columns.iter().map(|column| Values::Numbers(column)).collect();
    profile.add(bins, &values).unwrap();
    profile
}

fn psi(reference: &Reference, current: &[Vec<f64>], feature: usize) -> Score {
    let current = profile(&reference.bins, current);
    let bins = &reference.bins[feature];
    DETECTORS[0]
        .score(
            &reference.profile.histogram(feature, bins).unwrap(),
            &current.histogram(feature, bins).unwrap(),
        )
        .unwrap()
}

#[test]
fn every_feature_moved_by_three_deviations_is_far_beyond_every_threshold() {
    let mut numbers = Numbers(1);
    let columns: Vec<Vec<f64>> = (0..30).map(|_| numbers.normals(5_000, 0.0)).collect();
    let moved: Vec<Vec<f64>> = (0..30).map(|_| numbers.normals(500, 3.0)).collect();
    let reference = reference(&columns);
    for feature in 0..30 {
        let score = psi(&reference, &moved, feature);
        assert!(score.value > 3.0, "feature {feature}: {}", score.value);
    }
}

#[test]
fn a_column_that_vanished_is_seen_and_not_dropped() {
    let mut numbers = Numbers(2);
    let reference = reference(&[numbers.normals(5_000, 0.0)]);
    let score = psi(&reference, &[vec![f64::NAN; 500]], 0);
    assert!(score.value > 5.0, "{}", score.value);
}

#[test]
fn a_zero_inflated_column_that_loses_its_zeros_is_seen() {
    let mut numbers = Numbers(3);
    let mut column = |zeros: f64| -> Vec<f64> {
        (0..5_000)
            .map(|_| {
                if numbers.uniform() < zeros {
                    0.0
                } else {
                    numbers.normal().exp()
                }
            })
            .collect()
    };
    let reference = reference(&[column(0.95)]);
    let (same, moved) = (
        psi(&reference, &[column(0.95)], 0),
        psi(&reference, &[column(0.70)], 0),
    );
    assert!(
        same.value < 0.01 && moved.value > 0.3,
        "{} {}",
        same.value,
        moved.value
    );
}

#[test]
fn a_constant_column_that_moves_is_seen() {
    let reference = reference(&[vec![1.0; 1_000]]);
    assert_eq!(
        psi(&reference, &[vec![1.0; 100]], 0),
        Score { value: 0.0, bins: 1 }
    );
    assert!(psi(&reference, &[vec![2.0; 100]], 0).value > 5.0);
}

#[test]
fn one_huge_outlier_does_not_hide_a_shift() {
    let mut numbers = Numbers(4);
    let mut column = numbers.normals(5_000, 0.0);
    column.push(1e12);
    let reference = reference(&[column]);
    assert!(psi(&reference, &[numbers.normals(500, 1.5)], 0).value > 1.0);
}

/// Share of windows without drift whose index exceeds the critical value, and their mean index.
fn false_alarms(rows: usize, windows: usize, alpha: f64, draw: &mut dyn FnMut() -> f64) -> (f64, f64, f64) {
    let reference_rows = 20_000;
    let reference = reference(&[(0..reference_rows).map(|_| draw()).collect()]);
    let sizes = Sizes {
        reference: reference_rows as u64,
        current: rows as u64,
    };
    let (mut alarms, mut sum, mut expected) = (0, 0.0, 0.0);
    for _ in 0..windows {
        let score = psi(&reference, &[(0..rows).map(|_| draw()).collect()], 0);
        alarms += u32::from(score.value > psi_critical(score.bins, sizes, alpha));
        sum += score.value;
        expected += psi_expected(score.bins, sizes);
    }
    (
        f64::from(alarms) / windows as f64,
        sum / windows as f64,
        expected / windows as f64,
    )
}

#[test]
fn without_drift_the_index_stays_within_what_the_sample_size_explains() {
    let mut numbers = Numbers(5);
    for rows in [100, 200, 1_000, 5_000] {
        let (rate, mean, expected) = false_alarms(rows, 1_000, 0.01, &mut || numbers.normal());
        // 1 % of 1000 windows is 10, give or take 10: three standard errors.
        assert!(rate < 0.02, "{rows} rows: {rate}");
        assert!(
            (mean / expected - 1.0).abs() < 0.15,
            "{rows} rows: mean {mean}, expected {expected}"
        );
    }
}

#[test]
fn many_features_share_one_level() {
    let mut numbers = Numbers(6);
    let columns: Vec<Vec<f64>> = (0..30).map(|_| numbers.normals(20_000, 0.0)).collect();
    let reference = reference(&columns);
    let sizes = Sizes {
        reference: 20_000,
        current: 500,
    };
    let alarms = (0..200)
        .filter(|_| {
            let window: Vec<Vec<f64>> = (0..30).map(|_| numbers.normals(500, 0.0)).collect();
            (0..30).any(|feature| {
                let score = psi(&reference, &window, feature);
                score.value > psi_critical(score.bins, sizes, per_test(0.01, 30))
            })
        })
        .count();
    assert!(alarms <= 8, "{alarms} of 200 windows alarmed, 2 expected");
}

#[test]
fn the_reference_fraud_rate_is_the_real_one_and_doubling_it_is_seen() {
    let outcome = |rows: u64, every: u64| {
        let mut outcome = Outcome::empty(0.5);
        for row in 0..rows {
            outcome.add(
                f64::NAN,
                if row % every == 0 {
                    Known::Fraud
                } else {
                    Known::Genuine
                },
            );
        }
        outcome
    };
    let (reference, current) = (outcome(100_000, 100), outcome(10_000, 50));
    assert_eq!(reference.fraud_rate().value(), Some(0.01));
    assert_eq!(
        relative_change(reference.fraud_rate(), current.fraud_rate()),
        Ok(1.0)
    );
    assert!(
        two_rates(reference.fraud_rate(), current.fraud_rate())
            .unwrap()
            .p_value_exact
            < 1e-9
    );
    let clean = Outcome::empty(0.5);
    assert!(matches!(
        relative_change(clean.fraud_rate(), current.fraud_rate()),
        Err(Unusable::TooFewValues { .. })
    ));
}
