//! Tests of two samples, and of many: scipy.

use drift_stats::multiple::{benjamini_hochberg, benjamini_yekutieli, bonferroni};
use drift_stats::samples::mann_whitney::Alternative;
use drift_stats::samples::{
    Pair, anderson_darling, cramer_von_mises, energy, kolmogorov_smirnov, mann_whitney, wasserstein,
};

use crate::support::{both, cases, near, near_p, numbers, relative};

#[test]
fn tests_of_two_samples_say_what_scipy_says() {
    for (id, case) in cases("numeric.json") {
        let pair = Pair::new(&numbers(&case["reference"]), &numbers(&case["current"])).unwrap();
        let want = &case["expected"]["scipy_numpy"];
        let ks = &want["ks"];
        let found = kolmogorov_smirnov::distance(&pair);
        near(&id, "ks", found.value, &ks["statistic"], 1e-12);
        if found.value > 0.0 {
            let sign = if found.reference_above { 1.0 } else { -1.0 };
            assert_eq!(Some(sign), ks["sign"].as_f64(), "{id}: sign");
        }
        near_p(
            &id,
            "ks p_asymptotic",
            kolmogorov_smirnov::asymptotic(&pair).p,
            &ks["p_asymptotic"],
            1e-6,
        );
        near_p(
            &id,
            "ks p_auto",
            kolmogorov_smirnov::p_value(&pair).p,
            &ks["p_auto"],
            1e-6,
        );
        if !ks["p_exact"].is_null() {
            near_p(
                &id,
                "ks p_exact",
                kolmogorov_smirnov::exact(&pair).p,
                &ks["p_exact"],
                1e-6,
            );
        }
        let w = &want["wasserstein"];
        relative(
            &id,
            "wasserstein",
            wasserstein::distance(&pair).unwrap(),
            &w["raw"],
            1e-10,
        );
        let normed = wasserstein::normed(&pair).unwrap();
        relative(&id, "normed wasserstein", normed, &w["over_max_std_0.001"], 1e-10);
        relative(
            &id,
            "energy",
            energy::distance(&pair).unwrap(),
            &want["energy_distance"],
            1e-9,
        );
        let cvm = cramer_von_mises::asymptotic(&pair);
        let (statistic, p) = both(&want["cramer_von_mises"]);
        relative(&id, "cramer_von_mises", cvm.statistic, statistic, 1e-9);
        // scipy stops its series when a term is below 1e-7.
        near(&id, "cramer_von_mises p", cvm.p, p, 1e-6);
        let mwu = mann_whitney::asymptotic(&pair, Alternative::TwoSided);
        let (statistic, p) = both(&want["mann_whitney_u"]);
        relative(&id, "mann_whitney", mwu.statistic, statistic, 1e-9);
        near_p(&id, "mann_whitney p", mwu.p, p, 1e-8);
        let name = "statistic_normalized_midrank";
        let ad = &want["anderson_darling"][name];
        match anderson_darling::test(&pair) {
            Ok(found) => relative(&id, "anderson_darling", found.statistic, ad, 1e-8),
            Err(reason) => assert!(ad.is_null() || ad.is_object(), "{id}: {reason}, expected {ad}"),
        }
    }
}

#[test]
fn many_p_values_are_adjusted_as_scipy_does() {
    for (id, case) in cases("multiple_testing.json") {
        let p = numbers(&case["p_values"]);
        let want = case["expected"]["scipy_numpy"].as_object().expect("an object");
        for (name, wanted) in want {
            let got = match name.as_str() {
                name if name.contains("hochberg") || name == "bh" => benjamini_hochberg(&p),
                name if name.contains("yekutieli") || name == "by" => benjamini_yekutieli(&p),
                name if name.contains("bonferroni") => bonferroni(&p),
                other => panic!("{id}: nobody here adjusts by `{other}`"),
            };
            for (got, want) in got.iter().zip(numbers(wanted)) {
                assert!((got - want).abs() <= 1e-12, "{id} {name}: {got}, expected {want}");
            }
        }
    }
}
