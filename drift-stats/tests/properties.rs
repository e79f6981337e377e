//! What must hold for every input: order, symmetry, addition.

use drift_stats::binning::{BinSettings, FeatureBins, NumericBins};
use drift_stats::null::{Sizes, psi_p_value};
use drift_stats::outcome::{Known, Outcome};
use drift_stats::performance::Ranking;
use drift_stats::profile::{Profile, Values};
use drift_stats::proportion::{Rate, difference, two_rates, wilson};
use drift_stats::psi::of_counts;
use proptest::prelude::*;

/// Values as fraud data has them: ties, a mass at zero, missing ones, large and small.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => Just(0.0),
        1 => Just(f64::NAN),
        3 => (-50..50_i32).prop_map(f64::from),
        5 => -1e4..1e4_f64,
        1 => prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(f64::MAX), Just(5e-324)],
    ]
}

fn counts(bins: usize) -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(prop_oneof![1 => Just(0_u64), 4 => 1..100_000_u64], bins)
        .prop_filter("a sample has values", |counts| counts.iter().sum::<u64>() > 0)
}

fn profile(bins: &[FeatureBins], values: &[f64]) -> Profile {
    let mut profile = Profile::empty(bins);
    profile.add(bins, &[Values::Numbers(values)]).unwrap();
    profile
}

/// Everything but the floating sums, which depend on the order of addition in their last digits.
fn exact_part(profile: &Profile) -> (u64, Vec<u64>, Option<(u64, f64, f64)>) {
    let feature = &profile.features()[0];
    (
        profile.rows(),
        feature.counts().to_vec(),
        feature.moments().map(|m| (m.values, m.min, m.max)),
    )
}

proptest! {
    #[test]
    fn counting_many_values_at_once_puts_each_where_it_belongs(
        reference in proptest::collection::vec(value(), 1..400),
        values in proptest::collection::vec(value(), 0..100),
        (coarse_bins, fine_per_coarse) in (4..50_usize, 1..60_usize),
    ) {
        let settings = BinSettings { coarse_bins, fine_per_coarse, ..BinSettings::default() };
        let bins = NumericBins::fit(&reference, &settings);
        let all: Vec<f64> = values.iter().chain(&reference).copied().collect();
        let features = [FeatureBins::Numeric(bins.clone())];
        let mut one_by_one = vec![0; features[0].fine_len()];
        for value in &all {
            one_by_one[bins.bin_of(*value)] += 1;
        }
        let profile = profile(&features, &all);
        prop_assert_eq!(profile.features()[0].counts(), &one_by_one[..]);
    }

    #[test]
    fn psi_is_symmetric_never_negative_and_zero_for_equal_shares(
        (a, b) in (2..30_usize).prop_flat_map(|bins| (counts(bins), counts(bins))), times in 1..50_u64
    ) {
        let (there, back) = (of_counts(&a, &b).unwrap(), of_counts(&b, &a).unwrap());
        prop_assert!((there.value - back.value).abs() <= 1e-12 * there.value.max(1.0));
        prop_assert_eq!(there.bins, back.bins);
        prop_assert!(there.value >= 0.0 && there.value.is_finite());
        let scaled: Vec<u64> = a.iter().map(|count| count * times).collect();
        prop_assert!(of_counts(&a, &scaled).unwrap().value < 1e-20);
    }

    #[test]
    fn psi_does_not_depend_on_the_order_of_bins(
        pairs in proptest::collection::vec((1..1_000_u64, 0..1_000_u64), 2..20)
    ) {
        prop_assume!(pairs.iter().any(|(_, c)| *c > 0));
        let (r, c): (Vec<u64>, Vec<u64>) = pairs.iter().copied().unzip();
        let (r_turned, c_turned): (Vec<u64>, Vec<u64>) = pairs.iter().rev().copied().unzip();
        let (one, other) = (of_counts(&r, &c).unwrap(), of_counts(&r_turned, &c_turned).unwrap());
        prop_assert!((one.value - other.value).abs() < 1e-10);
    }

    #[test]
    fn merging_parts_equals_profiling_the_whole(
        reference in proptest::collection::vec(value(), 1..400),
        parts in proptest::collection::vec(proptest::collection::vec(value(), 0..60), 1..6),
    ) {
        let bins = vec![FeatureBins::Numeric(NumericBins::fit(&reference, &BinSettings::default()))];
        let whole = profile(&bins, &parts.concat());
        let mut forwards = Profile::empty(&bins);
        let mut backwards = Profile::empty(&bins);
        for part in &parts { forwards.merge(&profile(&bins, part)).unwrap(); }
        for part in parts.iter().rev() { backwards.merge(&profile(&bins, part)).unwrap(); }
        prop_assert_eq!(exact_part(&forwards), exact_part(&whole));
        prop_assert_eq!(exact_part(&backwards), exact_part(&whole));
        let sum = |profile: &Profile| profile.features()[0].moments().unwrap().sum;
        prop_assert!((sum(&forwards) - sum(&whole)).abs() <= 1e-9 * sum(&whole).abs().max(1e9));
        let text = serde_json::to_string(&whole).unwrap();
        prop_assert_eq!(serde_json::from_str::<Profile>(&text).unwrap(), whole);
    }

    #[test]
    fn every_value_falls_into_exactly_one_bin_and_the_order_of_the_reference_does_not_matter(
        mut reference in proptest::collection::vec(value(), 0..400),
        current in proptest::collection::vec(value(), 0..100),
    ) {
        let bins = NumericBins::fit(&reference, &BinSettings::default());
        reference.reverse();
        prop_assert_eq!(&NumericBins::fit(&reference, &BinSettings::default()), &bins);
        let missing = current.iter().filter(|value| value.is_nan()).count() as u64;
        let bins = vec![FeatureBins::Numeric(bins)];
        let profile = profile(&bins, &current);
        let histogram = profile.histogram(0, &bins[0]).unwrap();
        prop_assert_eq!(histogram.values(), current.len() as u64);
        prop_assert_eq!(histogram.coarse().iter().sum::<u64>(), current.len() as u64);
        prop_assert_eq!(histogram.coarse()[0], missing);
    }

    #[test]
    fn larger_values_never_fall_into_lower_bins(
        reference in proptest::collection::vec(-1e3..1e3_f64, 50..300), a in -2e3..2e3_f64, b in -2e3..2e3_f64
    ) {
        let bins = NumericBins::fit(&reference, &BinSettings::default());
        prop_assume!(bins.points().is_empty());
        prop_assert!(bins.bin_of(a.min(b)) <= bins.bin_of(a.max(b)));
    }

    #[test]
    fn outcomes_merge_by_addition(
        rows in proptest::collection::vec((0.0..=1.0_f64, 0..3_u8, any::<bool>()), 0..200), cut in 0..200_usize
    ) {
        let count = |part: &[(f64, u8, bool)]| {
            let mut outcome = Outcome::empty(0.3);
            for (score, label, scored) in part {
                let label = [Known::Unknown, Known::Genuine, Known::Fraud][usize::from(*label)];
                outcome.add(if *scored { *score } else { f64::NAN }, label);
            }
            outcome
        };
        let (left, right) = rows.split_at(cut.min(rows.len()));
        let mut merged = count(right);
        merged.merge(&count(left)).unwrap();
        prop_assert_eq!(merged, count(&rows));
    }

    #[test]
    fn ranking_measures_do_not_depend_on_the_order_of_rows(
        mut rows in proptest::collection::vec(((0..20_u32).prop_map(|s| f64::from(s) / 20.0), any::<bool>()), 1..80),
        threshold in 0.0..1.0_f64,
    ) {
        let of = |rows: &[(f64, bool)]| {
            let (scores, frauds): (Vec<f64>, Vec<bool>) = rows.iter().copied().unzip();
            Ranking::new(&scores, &frauds).unwrap()
        };
        let before = of(&rows);
        rows.reverse();
        prop_assert_eq!(&of(&rows), &before);
        let confusion = before.confusion_at(threshold);
        prop_assert_eq!(confusion.rows(), rows.len() as u64);
        for share in [before.roc_auc().ok(), before.average_precision().ok(), confusion.f1()].into_iter().flatten() {
            prop_assert!((0.0..=1.0).contains(&share));
        }
        if let (Ok(area), Ok(interval)) = (before.roc_auc(), before.roc_auc_interval(0.95)) {
            prop_assert!(interval.low <= area && area <= interval.high, "{area} {interval:?}");
        }
    }

    #[test]
    fn rates_have_intervals_inside_zero_and_one_that_hold_the_rate(
        hits in 0..500_u64, more in 0..500_u64, other in 0..500_u64, others in 1..500_u64
    ) {
        let rate = Rate { hits, of: hits + more };
        let second = Rate { hits: other.min(others), of: others };
        if let (Some(p), Some(interval)) = (rate.value(), wilson(rate, 0.95)) {
            prop_assert!(0.0 <= interval.low && interval.low <= p + 1e-12 && p <= interval.high + 1e-12 && interval.high <= 1.0);
            let found = difference(rate, second, 0.95).unwrap();
            prop_assert!(found.interval.low <= found.value + 1e-12 && found.value <= found.interval.high + 1e-12);
            let test = two_rates(rate, second).unwrap();
            prop_assert!((0.0..=1.0).contains(&test.p_value) && (0.0..=1.0).contains(&test.p_value_exact));
        }
    }

    #[test]
    fn p_values_are_probabilities(psi in 0.0..100.0_f64, bins in 1..200_u32, n in 1..1_000_000_u64, m in 1..1_000_000_u64) {
        let p = psi_p_value(psi, bins, Sizes { reference: n, current: m });
        prop_assert!((0.0..=1.0).contains(&p));
    }
}
