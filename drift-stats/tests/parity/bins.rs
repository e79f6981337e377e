//! Bins, counts in them, and distances over them: numpy and scipy.

use drift_stats::compat::{count_in_edges, count_values, psi_with_empty_share, quantile_edges};
use drift_stats::contingency::{self, Correction};
use drift_stats::{hellinger, jensen_shannon, l_infinity, total_variation};
use serde_json::Value;

use crate::support::{both, cases, counts, level_counts, missing, near, near_p, numbers};

#[test]
fn quantile_bins_count_and_measure_as_numpy_does() {
    for (id, case) in cases("numeric.json") {
        let (reference, current) = (numbers(&case["reference"]), numbers(&case["current"]));
        let want = &case["expected"]["scipy_numpy"]["quantile_bins_10"];
        let edges = quantile_edges(&reference, 10);
        let (r, c) = (
            count_in_edges(&reference, &edges),
            count_in_edges(&current, &edges),
        );
        assert_eq!(r, counts(&want["reference_counts"]), "{id}: reference");
        assert_eq!(c, counts(&want["current_counts"]), "{id}: current");
        for (name, empty_share) in [("psi_eps_1e-4", 1e-4), ("psi_eps_1e-6", 1e-6)] {
            near(
                &id,
                name,
                psi_with_empty_share(&r, &c, empty_share).unwrap(),
                &want[name],
                1e-10,
            );
        }
        let with = |mut counts: Vec<u64>, values: &[f64]| {
            counts.push(missing(values));
            counts
        };
        let index = psi_with_empty_share(&with(r, &reference), &with(c, &current), 1e-4).unwrap();
        let name = "psi_with_missing_bin_eps_1e-4";
        // Where neither sample misses anything the bin does not exist, which equals two empty shares.
        near(&id, name, index, &want[name], 1e-10);
    }
}

#[test]
fn value_bins_count_and_measure_as_numpy_does() {
    let mut compared = 0;
    for (id, case) in cases("numeric.json") {
        let want = &case["expected"]["scipy_numpy"]["value_bins"];
        if want.is_null() {
            continue;
        }
        compared += 1;
        let (r, c) = count_values(&numbers(&case["reference"]), &numbers(&case["current"]));
        assert_eq!(r, counts(&want["reference_counts"]), "{id}: reference");
        assert_eq!(c, counts(&want["current_counts"]), "{id}: current");
        let name = "psi_eps_1e-4";
        near(
            &id,
            name,
            psi_with_empty_share(&r, &c, 1e-4).unwrap(),
            &want[name],
            1e-10,
        );
    }
    assert!(compared > 0);
}

#[test]
fn distances_over_bins_are_those_of_scipy() {
    for (id, case) in cases("numeric.json") {
        for bins in ["quantile_bins_10", "value_bins"] {
            let want = &case["expected"]["scipy_numpy"][bins];
            if want.is_null() {
                continue;
            }
            let (r, c) = (counts(&want["reference_counts"]), counts(&want["current_counts"]));
            compare_distances(&id, &r, &c, want);
        }
    }
    for (id, case) in cases("categorical.json") {
        let want = &case["expected"]["scipy_numpy"];
        let (r, c) = level_counts(&case, want);
        compare_distances(&id, &r, &c, want);
        if !want["l_infinity"].is_null() {
            near(
                &id,
                "l_infinity",
                l_infinity::of_counts(&r, &c).unwrap(),
                &want["l_infinity"],
                1e-10,
            );
        }
        for (name, correction) in [
            ("chi2_contingency_default_yates_when_2x2", Correction::YatesForTwo),
            ("chi2_contingency_no_correction", Correction::None),
        ] {
            let want = &want[name];
            match contingency::chi_squared(&r, &c, correction) {
                Ok(found) => {
                    let (statistic, p) = both(want);
                    near(&id, name, found.test.statistic, statistic, 1e-9);
                    near_p(&id, name, found.test.p, p, 1e-9);
                }
                Err(reason) => assert!(
                    want.is_null() || !want["error"].is_null(),
                    "{id}: {reason}, expected {want}"
                ),
            }
        }
        let name = "cramers_v_no_correction";
        if want[name].as_f64().is_some() {
            near(
                &id,
                name,
                contingency::cramers_v(&r, &c).unwrap(),
                &want[name],
                1e-9,
            );
        }
    }
}

fn compare_distances(id: &str, r: &[u64], c: &[u64], want: &Value) {
    for (name, got) in [
        ("js_distance_base2", jensen_shannon::of_counts(r, c)),
        ("js_distance_base_e", jensen_shannon::natural(r, c)),
        ("hellinger", hellinger::of_counts(r, c)),
        ("tvd", total_variation::of_counts(r, c)),
    ] {
        if want[name].is_null() {
            continue;
        }
        // The root of a rounding error is large where the divergence is nothing.
        let (got, tolerance) = (
            got.unwrap(),
            if want[name].as_f64() < Some(1e-6) {
                2e-8
            } else {
                1e-10
            },
        );
        near(id, name, got, &want[name], tolerance);
    }
}

#[test]
fn levels_measure_as_numpy_does() {
    for (id, case) in cases("categorical.json") {
        let want = &case["expected"]["scipy_numpy"];
        let levels = want["levels"].as_array().expect("levels");
        let of = |side: &str| -> Vec<u64> {
            levels
                .iter()
                .map(|level| case[side][level.as_str().expect("text")].as_u64().unwrap_or(0))
                .collect()
        };
        let (mut r, mut c) = (of("reference_counts"), of("current_counts"));
        for (name, empty_share) in [("psi_eps_1e-4", 1e-4), ("psi_eps_1e-6", 1e-6)] {
            near(
                &id,
                name,
                psi_with_empty_share(&r, &c, empty_share).unwrap(),
                &want[name],
                1e-10,
            );
        }
        r.push(case["missing_reference"].as_u64().expect("a count"));
        c.push(case["missing_current"].as_u64().expect("a count"));
        let name = "psi_with_missing_level_eps_1e-4";
        near(
            &id,
            name,
            psi_with_empty_share(&r, &c, 1e-4).unwrap(),
            &want[name],
            1e-10,
        );
    }
}
