//! Distances and tests on raw samples: what must hold of each whatever the samples are.

use drift_stats::samples::mann_whitney::Alternative;
use drift_stats::samples::{
    Pair, anderson_darling, cramer_von_mises, energy, kolmogorov_smirnov, mann_whitney, student, wasserstein,
};
use drift_stats::{
    Unusable, contingency, hellinger, jensen_shannon, kullback_leibler, l_infinity, total_variation,
};
use proptest::prelude::*;

/// Numbers with ties, missing ones and large ones.
fn sample() -> impl Strategy<Value = Vec<f64>> {
    let number = prop_oneof![
        4 => (-20_i32..20).prop_map(f64::from),
        3 => -1e3_f64..1e3,
        1 => Just(f64::NAN),
    ];
    proptest::collection::vec(number, 1..60)
}

/// Counts in some bins.
fn two_lists() -> impl Strategy<Value = (Vec<u64>, Vec<u64>)> {
    proptest::collection::vec((0_u64..50, 0_u64..50), 1..12).prop_map(|pairs| pairs.into_iter().unzip())
}

fn is_p(p: f64) -> bool {
    (0.0..=1.0).contains(&p)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_test_gives_a_probability_and_every_distance_a_number(reference in sample(), current in sample()) {
        let Ok(pair) = Pair::new(&reference, &current) else {
            prop_assume!(false);
            return Ok(());
        };
        let back = Pair::new(&current, &reference).unwrap();
        for test in [
            kolmogorov_smirnov::exact(&pair),
            kolmogorov_smirnov::asymptotic(&pair),
            cramer_von_mises::asymptotic(&pair),
            mann_whitney::asymptotic(&pair, Alternative::TwoSided),
            mann_whitney::p_value(&pair, Alternative::ReferenceLess),
        ] {
            prop_assert!(is_p(test.p) && test.statistic.is_finite(), "{test:?}");
        }
        for found in [anderson_darling::test(&pair), student::test(&pair)] {
            match found {
                Ok(test) => prop_assert!(is_p(test.p) && test.statistic.is_finite(), "{test:?}"),
                Err(reason) => prop_assert!(
                    matches!(reason, Unusable::Constant | Unusable::TooFewValues { .. }),
                    "{reason}"
                ),
            }
        }
        let (d, back_d) = (kolmogorov_smirnov::distance(&pair), kolmogorov_smirnov::distance(&back));
        prop_assert!((0.0..=1.0).contains(&d.value));
        prop_assert!((d.value - back_d.value).abs() < 1e-12);
        for (there, back) in [
            (wasserstein::distance(&pair), wasserstein::distance(&back)),
            (energy::distance(&pair), energy::distance(&back)),
        ] {
            let (there, back) = (there.unwrap(), back.unwrap());
            prop_assert!(there >= 0.0 && (there - back).abs() <= 1e-9 * (1.0 + there));
        }
    }

    #[test]
    fn tests_of_order_see_only_the_order(reference in sample(), current in sample()) {
        let Ok(pair) = Pair::new(&reference, &current) else {
            prop_assume!(false);
            return Ok(());
        };
        // Increasing, and exact enough to keep ties.
        let map = |values: &[f64]| values.iter().map(|value| value * 8.0 + 1.0).collect::<Vec<_>>();
        let mapped = Pair::new(&map(&reference), &map(&current)).unwrap();
        prop_assert_eq!(kolmogorov_smirnov::exact(&pair), kolmogorov_smirnov::exact(&mapped));
        prop_assert_eq!(cramer_von_mises::asymptotic(&pair), cramer_von_mises::asymptotic(&mapped));
        let sides = Alternative::TwoSided;
        prop_assert_eq!(mann_whitney::asymptotic(&pair, sides), mann_whitney::asymptotic(&mapped, sides));
        prop_assert_eq!(anderson_darling::test(&pair), anderson_darling::test(&mapped));
        let (before, after) = (wasserstein::distance(&pair).unwrap(), wasserstein::distance(&mapped).unwrap());
        prop_assert!((before * 8.0 - after).abs() <= 1e-9 * (1.0 + after));
    }

    #[test]
    fn distances_of_bins_stay_within_their_ranges((reference, current) in two_lists()) {
        let empty = |counts: &[u64]| counts.iter().sum::<u64>() == 0;
        prop_assume!(!empty(&reference) && !empty(&current));
        for (name, distance, most) in [
            ("jensen_shannon", jensen_shannon::of_counts(&reference, &current), 1.0),
            ("natural", jensen_shannon::natural(&reference, &current), std::f64::consts::LN_2.sqrt() + 1e-12),
            ("hellinger", hellinger::of_counts(&reference, &current), 1.0),
            ("l_infinity", l_infinity::of_counts(&reference, &current), 1.0),
            ("total_variation", total_variation::of_counts(&reference, &current), 1.0),
            ("cramers_v", contingency::cramers_v(&reference, &current), 1.0),
            ("kullback_leibler", kullback_leibler::of_counts(&reference, &current), f64::MAX),
        ] {
            let distance = distance.unwrap();
            prop_assert!((0.0..=most).contains(&distance), "{name}: {distance}");
        }
        // Pinsker and Le Cam: none can be small where another is large.
        let (tv, h) = (
            total_variation::of_counts(&reference, &current).unwrap(),
            hellinger::of_counts(&reference, &current).unwrap(),
        );
        prop_assert!(h * h <= tv + 1e-12 && tv <= h * std::f64::consts::SQRT_2 + 1e-12, "{tv} {h}");
    }
}
