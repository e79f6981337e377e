//! An independent implementation agrees: numpy, scipy and scikit-learn on the same inputs.
//!
//! `tests/goldens` holds a few cases; the whole collection is read from the folder that `VIGIE_PARITY_DIR` names, else from
//! `../shared/parity` beside the repository, when it is there.

use std::path::{Path, PathBuf};

use drift_stats::compat::evidently::{self, Method};
use drift_stats::compat::nannyml;
use drift_stats::compat::{count_in_edges, count_values, psi_with_empty_share, quantile_edges};
use drift_stats::contingency::{self, Correction};
use drift_stats::isotonic::Isotonic;
use drift_stats::multiple::{benjamini_hochberg, benjamini_yekutieli, bonferroni};
use drift_stats::pca::Reconstruction;
use drift_stats::performance::Ranking;
use drift_stats::samples::mann_whitney::Alternative;
use drift_stats::samples::{
    Pair, anderson_darling, cramer_von_mises, energy, kolmogorov_smirnov, mann_whitney, student, wasserstein,
};
use drift_stats::stream::{
    Adwin, AdwinSettings, Ddm, DdmSettings, Eddm, EddmSettings, HddmA, HddmASettings, HddmW, HddmWSettings,
    Kswin, KswinSettings, PageHinkley, PageHinkleySettings, Sides, Signal, StreamDetector,
};
use drift_stats::{Unusable, cbpe, hellinger, jensen_shannon, l_infinity, total_variation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The committed cases, and the whole collection when it is there.
fn collections(file: &str) -> Vec<PathBuf> {
    let folder = std::env::var_os("VIGIE_PARITY_DIR")
        .map_or_else(|| here().join("../../shared/parity"), PathBuf::from);
    let all = [here().join("tests/goldens").join(file), folder.join(file)];
    for path in all.iter().filter(|path| !path.is_file()) {
        println!("skipped: {} is not there", path.display());
    }
    all.into_iter().filter(|path| path.is_file()).collect()
}

fn cases(file: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for path in collections(file) {
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let document: Value = serde_json::from_str(&text).expect("a JSON document");
        for case in document["cases"].as_array().expect("cases") {
            found.push((case["id"].as_str().expect("an id").to_owned(), case.clone()));
        }
    }
    found
}

/// Numbers with `null` as NaN and the spelled-out infinities.
fn numbers(value: &Value) -> Vec<f64> {
    let number = |item: &Value| match item {
        Value::Null => f64::NAN,
        Value::String(text) => text.parse().expect("inf or -inf"),
        other => other.as_f64().expect("a number"),
    };
    value.as_array().expect("a list").iter().map(number).collect()
}

fn counts(value: &Value) -> Vec<u64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item.as_u64().expect("a count"))
        .collect()
}

fn missing(values: &[f64]) -> u64 {
    values.iter().filter(|value| value.is_nan()).count() as u64
}

#[track_caller]
fn near(id: &str, what: &str, got: f64, want: &Value, tolerance: f64) {
    let want = want
        .as_f64()
        .unwrap_or_else(|| panic!("{id}: {what} is not in the file"));
    assert!(
        (got - want).abs() <= tolerance * want.abs().max(1.0),
        "{id}: {what} is {got}, expected {want}"
    );
}

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

/// A p-value: relative tolerance, and absolute where it is almost nothing.
#[track_caller]
fn near_p(id: &str, what: &str, got: f64, want: &Value, relative: f64) {
    let Some(want) = want.as_f64() else {
        panic!("{id}: {what} is not in the file")
    };
    assert!(
        (got - want).abs() <= relative * want + 1e-12,
        "{id}: {what} is {got}, expected {want}"
    );
}

fn relative(id: &str, what: &str, got: f64, want: &Value, tolerance: f64) {
    let want = want
        .as_f64()
        .unwrap_or_else(|| panic!("{id}: {what} is not in the file"));
    assert!(
        (got - want).abs() <= tolerance * want.abs() + 1e-13,
        "{id}: {what} is {got}, expected {want}"
    );
}

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

/// Statistic and p-value, whatever the file calls them.
fn both(found: &Value) -> (&Value, &Value) {
    let statistic = ["statistic", "u_reference"].iter().map(|name| &found[*name]);
    let p = ["p", "p_asymptotic", "p_asymptotic_two_sided"]
        .iter()
        .map(|name| &found[*name]);
    (
        statistic
            .into_iter()
            .find(|value| !value.is_null())
            .unwrap_or(&Value::Null),
        p.into_iter()
            .find(|value| !value.is_null())
            .unwrap_or(&Value::Null),
    )
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

/// Counts by the file's list of levels.
fn level_counts(case: &Value, want: &Value) -> (Vec<u64>, Vec<u64>) {
    let levels = want["levels"].as_array().expect("levels");
    let of = |side: &str| {
        levels
            .iter()
            .map(|level| case[side][level.as_str().expect("text")].as_u64().unwrap_or(0))
            .collect()
    };
    (of("reference_counts"), of("current_counts"))
}

#[test]
fn what_evidently_says_of_numbers_can_be_said_here() {
    for (id, case) in cases("numeric.json") {
        let (r, c) = (numbers(&case["reference"]), numbers(&case["current"]));
        let pair = Pair::new(&r, &c).unwrap();
        let want = |name: &str| &case["expected"]["evidently"][name]["value"];
        let (in_r, in_c) = evidently::binned(&r, &c).unwrap();
        let bins = &case["expected"]["evidently"]["psi_bins"];
        if !bins["reference_counts"].is_null() {
            assert_eq!(in_r, counts(&bins["reference_counts"]), "{id}");
            assert_eq!(in_c, counts(&bins["current_counts"]), "{id}");
        }
        let near_zero = |name: &str| {
            if want(name).as_f64() < Some(1e-6) {
                3e-8
            } else {
                1e-8
            }
        };
        for (name, got) in [
            ("psi", evidently::psi(&in_r, &in_c)),
            ("jensenshannon", evidently::jensenshannon(&in_r, &in_c)),
            ("kl_div", evidently::kl_div(&in_r, &in_c)),
            ("hellinger", evidently::hellinger(&r, &c)),
            ("wasserstein", wasserstein::normed(&pair)),
            ("energy", energy::distance(&pair)),
        ] {
            near(&id, name, got.unwrap(), want(name), near_zero(name));
        }
        near_p(&id, "ks", kolmogorov_smirnov::p_value(&pair).p, want("ks"), 1e-6);
        let mwu = mann_whitney::p_value(&pair, Alternative::ReferenceLess);
        near_p(&id, "mann_whitney", mwu.p, want("mann_whitney"), 1e-6);
        // scipy stops its series when a term is below 1e-7.
        near(
            &id,
            "cramer_von_mises",
            cramer_von_mises::p_value(&pair).p,
            want("cramer_von_mises"),
            1e-6,
        );
        near_p(
            &id,
            "anderson",
            anderson_darling::test(&pair).unwrap().p,
            want("anderson"),
            1e-6,
        );
        match student::test(&pair) {
            Ok(found) => near_p(&id, "t_test", found.p, want("t_test"), 1e-6),
            Err(reason) => assert!(want("t_test").is_null(), "{id}: {reason}"),
        }
        let distinct = pair.steps().count();
        let (of_r, of_c) = count_values(&r, &c);
        let by_default = match evidently::default_method(true, pair.reference().len(), distinct) {
            Method::KolmogorovSmirnov => kolmogorov_smirnov::p_value(&pair).p,
            Method::ChiSquared => evidently::chisquare(&of_r, &of_c).unwrap(),
            Method::ZTest => evidently::z_test(&of_r, &of_c).unwrap(),
            Method::NormedWasserstein => wasserstein::normed(&pair).unwrap(),
            Method::JensenShannon => evidently::jensenshannon(&in_r, &in_c).unwrap(),
        };
        near_p(&id, "default_method", by_default, want("default_method"), 1e-6);
    }
}

#[test]
fn what_nannyml_says_of_numbers_can_be_said_here() {
    for (id, case) in cases("numeric.json") {
        let (r, c) = (numbers(&case["reference"]), numbers(&case["current"]));
        let pair = Pair::new(&r, &c).unwrap();
        let (in_r, in_c) = nannyml::binned(&r, &c).unwrap();
        for (name, got) in [
            ("jensen_shannon", nannyml::jensen_shannon(&in_r, &in_c)),
            ("hellinger", nannyml::hellinger(&in_r, &in_c)),
            (
                "kolmogorov_smirnov",
                Ok(kolmogorov_smirnov::distance(&pair).value),
            ),
            ("wasserstein", wasserstein::distance(&pair)),
        ] {
            let want = &case["expected"]["nannyml"][name]["value"];
            near(
                &id,
                name,
                got.unwrap(),
                want,
                if want.as_f64() < Some(1e-6) { 3e-8 } else { 1e-8 },
            );
        }
    }
}

#[test]
fn what_evidently_and_nannyml_say_of_levels_can_be_said_here() {
    for (id, case) in cases("categorical.json") {
        let (r, c) = level_counts(&case, &case["expected"]["scipy_numpy"]);
        let evidently_says = &case["expected"]["evidently"];
        for (name, got) in [
            ("psi", evidently::psi(&r, &c)),
            ("jensenshannon", evidently::jensenshannon(&r, &c)),
            ("kl_div", evidently::kl_div(&r, &c)),
            ("hellinger", hellinger::of_counts(&r, &c)),
        ] {
            let want = &evidently_says[name]["value"];
            near(
                &id,
                name,
                got.unwrap(),
                want,
                if want.as_f64() < Some(1e-6) { 3e-8 } else { 1e-9 },
            );
        }
        for (name, got) in [
            ("chisquare", evidently::chisquare(&r, &c)),
            ("g_test", evidently::g_test(&r, &c)),
            ("z", evidently::z_test(&r, &c)),
        ] {
            let want = &evidently_says[name];
            match (want["value"].as_f64(), got) {
                (Some(_), Ok(got)) => near_p(&id, name, got, &want["value"], 1e-6),
                (None, Err(_)) => {}
                // Of more than two levels it is not asked.
                (None, Ok(_)) if want.is_null() => {}
                (_, got) => panic!("{id}: {name} is {got:?}, expected {want}"),
            }
        }
        let nannyml_says = &case["expected"]["nannyml"];
        let (in_r, in_c) = nannyml::pooled(&r, &c);
        for (name, got) in [
            ("jensen_shannon", nannyml::jensen_shannon(&in_r, &in_c)),
            ("hellinger", nannyml::hellinger(&in_r, &in_c)),
            ("l_infinity", l_infinity::of_counts(&r, &c)),
        ] {
            let want = &nannyml_says[name]["value"];
            near(
                &id,
                name,
                got.unwrap(),
                want,
                if want.as_f64() < Some(1e-6) { 3e-8 } else { 1e-9 },
            );
        }
        let want = &nannyml_says["chi2"];
        match contingency::chi_squared(&r, &c, Correction::YatesForTwo) {
            Ok(found) => {
                near(&id, "chi2", found.test.statistic, &want["value"], 1e-9);
                near_p(&id, "chi2 p", found.test.p, &want["p"], 1e-9);
            }
            // One level only: nothing can differ.
            Err(Unusable::Constant) => assert_eq!(want["p"].as_f64(), Some(1.0), "{id}"),
            Err(reason) => panic!("{id}: {reason}"),
        }
    }
}

#[test]
fn performance_without_labels_is_estimated_as_nannyml_does() {
    for (id, case) in cases("cbpe.json") {
        let want = &case["expected"]["nannyml"];
        let (fitted, looked) = (&case["reference"], numbers(&case["analysis"]["score"]));
        let curve = Isotonic::fit(&numbers(&fitted["score"]), &numbers(&fitted["y_true"])).unwrap();
        let (scores, values) = curve.knots();
        for (name, got) in [("x", scores), ("y", values)] {
            let wanted = numbers(&want["isotonic_knots"][name]);
            assert_eq!(got.len(), wanted.len(), "{id}: knots");
            for (got, want) in got.iter().zip(wanted) {
                assert!(
                    (got - want).abs() <= 1e-9,
                    "{id}: a knot at {got}, expected {want}"
                );
            }
        }
        let calibrated: Vec<f64> = looked.iter().map(|score| curve.at(*score)).collect();
        for (got, want) in calibrated
            .iter()
            .zip(numbers(&want["calibrated_first_50_of_analysis"]))
        {
            assert!(
                (got - want).abs() <= 1e-9,
                "{id}: calibrated {got}, expected {want}"
            );
        }
        let threshold = case["threshold"].as_f64().expect("a threshold");
        for (name, probabilities) in [
            ("whole_analysis_without_calibration", &looked),
            ("whole_analysis_with_isotonic_calibration", &calibrated),
        ] {
            let want = &want[name];
            let found = cbpe::estimate(&looked, probabilities, threshold).unwrap();
            for (metric, got, tolerance) in [
                ("roc_auc", found.roc_auc, 1e-4),
                ("average_precision", found.average_precision, 1e-4),
                ("f1", found.confusion.f1(), 1e-9),
                ("precision", found.confusion.precision(), 1e-9),
                ("recall", found.confusion.recall(), 1e-9),
                ("specificity", found.confusion.specificity(), 1e-9),
                ("accuracy", found.confusion.accuracy(), 1e-9),
            ] {
                near(&id, metric, got.unwrap(), &want[metric], tolerance);
            }
        }
        let calibrates = want["needs_calibration"].as_bool().expect("a flag");
        let chosen = if calibrates { &calibrated } else { &looked };
        let size = usize::try_from(case["chunk_size"].as_u64().expect("a size")).unwrap();
        let (of_reference, labels) = (numbers(&fitted["score"]), numbers(&fitted["y_true"]));
        for (metric, want) in want["by_chunk"].as_object().expect("metrics") {
            let tolerance = if ["roc_auc", "average_precision"].contains(&metric.as_str()) {
                1e-4
            } else {
                1e-8
            };
            let estimated: Vec<f64> = looked
                .chunks(size)
                .zip(chosen.chunks(size))
                .map(|(scores, probabilities)| {
                    let found = cbpe::estimate(scores, probabilities, threshold).unwrap();
                    estimated_metric(metric, &found)
                })
                .collect();
            for (got, want) in estimated.iter().zip(numbers(&want["estimated"])) {
                assert!(
                    (got - want).abs() <= tolerance,
                    "{id} {metric}: {got}, expected {want}"
                );
            }
            // Limits are those of what was realised, and stay within the metric's own.
            let realised: Vec<f64> = of_reference
                .chunks(size)
                .zip(labels.chunks(size))
                .map(|(scores, labels)| {
                    let frauds: Vec<bool> = labels.iter().map(|label| *label == 1.0).collect();
                    realised_metric(metric, &Ranking::new(scores, &frauds).unwrap(), threshold)
                })
                .collect();
            let upper = nannyml::upper_threshold(&realised).unwrap();
            let mean = realised.iter().sum::<f64>() / realised.len() as f64;
            let (lower, upper) = ((2.0 * mean - upper).max(0.0), upper.min(1.0));
            for (name, got) in [("lower_threshold", lower), ("upper_threshold", upper)] {
                if want[name].as_f64().is_some() {
                    near(&id, &format!("{metric} {name}"), got, &want[name], tolerance);
                }
            }
        }
    }
}

fn estimated_metric(name: &str, found: &cbpe::Estimate) -> f64 {
    let confusion = &found.confusion;
    let value = match name {
        "roc_auc" => found.roc_auc,
        "average_precision" => found.average_precision,
        "f1" => confusion.f1(),
        "precision" => confusion.precision(),
        "recall" => confusion.recall(),
        "specificity" => confusion.specificity(),
        "accuracy" => confusion.accuracy(),
        other => panic!("there is no metric `{other}` here"),
    };
    value.unwrap()
}

fn realised_metric(name: &str, ranking: &Ranking, threshold: f64) -> f64 {
    let confusion = ranking.confusion_at(threshold);
    let value = match name {
        "roc_auc" => ranking.roc_auc().ok(),
        "average_precision" => ranking.average_precision().ok(),
        "f1" => confusion.f1(),
        "precision" => confusion.precision().value(),
        "recall" => confusion.recall().value(),
        "specificity" => confusion.specificity().value(),
        "accuracy" => confusion.accuracy().value(),
        other => panic!("there is no metric `{other}` here"),
    };
    value.unwrap()
}

/// A method of NannyML's on a whole reference and a chunk.
fn chunk_value(method: &str, reference: &[f64], chunk: &[f64]) -> f64 {
    let pair = Pair::new(reference, chunk).unwrap();
    let (r, c) = nannyml::binned(reference, chunk).unwrap();
    match method {
        "jensen_shannon" => nannyml::jensen_shannon(&r, &c).unwrap(),
        "hellinger" => nannyml::hellinger(&r, &c).unwrap(),
        "kolmogorov_smirnov" => kolmogorov_smirnov::distance(&pair).value,
        "wasserstein" => wasserstein::distance(&pair).unwrap(),
        other => panic!("there is no method `{other}` here"),
    }
}

/// The same of levels.
fn chunk_of_levels(method: &str, reference: &[&str], chunk: &[&str]) -> f64 {
    let mut levels: Vec<&str> = reference.iter().chain(chunk).copied().collect();
    levels.sort_unstable();
    levels.dedup();
    let count = |values: &[&str]| -> Vec<u64> {
        let of = |level: &&str| values.iter().filter(|value| value == &level).count() as u64;
        levels.iter().map(of).collect()
    };
    let (r, c) = (count(reference), count(chunk));
    let (in_r, in_c) = nannyml::pooled(&r, &c);
    match method {
        "jensen_shannon" => nannyml::jensen_shannon(&in_r, &in_c).unwrap(),
        "hellinger" => nannyml::hellinger(&in_r, &in_c).unwrap(),
        "l_infinity" => l_infinity::of_counts(&r, &c).unwrap(),
        "chi2" => {
            contingency::chi_squared(&r, &c, Correction::YatesForTwo)
                .unwrap()
                .test
                .statistic
        }
        other => panic!("there is no method `{other}` here"),
    }
}

#[test]
fn chunks_have_the_values_thresholds_and_alerts_of_nannyml() {
    for (id, case) in cases("chunks.json") {
        let size = usize::try_from(case["chunk_size"].as_u64().expect("a size")).unwrap();
        let expected = &case["expected"]["nannyml"];
        if case["kind"] == "multivariate" {
            let rows = |side: &str| -> Vec<Vec<f64>> {
                case[side].as_array().expect("rows").iter().map(numbers).collect()
            };
            let reference = rows("reference");
            let fitted = Reconstruction::fit(&reference, 0.65).unwrap();
            assert_eq!(
                Some(fitted.components() as u64),
                expected["components_kept"].as_u64(),
                "{id}"
            );
            for (side, name) in [(reference, "reference_values"), (rows("analysis"), "values")] {
                let wanted = numbers(&expected[name]);
                assert_eq!(side.chunks(size).len(), wanted.len(), "{id}");
                for (chunk, want) in side.chunks(size).zip(wanted) {
                    let got = fitted.mean_error(chunk).unwrap();
                    assert!((got - want).abs() <= 1e-8, "{id}: {got}, expected {want}");
                }
            }
            continue;
        }
        let continuous = case["kind"] == "continuous";
        for (method, want) in expected.as_object().expect("methods") {
            let values = |side: &str| -> Vec<f64> {
                let chunked = case[side].as_array().expect("values");
                if continuous {
                    let reference = numbers(&case["reference"]);
                    let all = numbers(&case[side]);
                    return all
                        .chunks(size)
                        .map(|chunk| chunk_value(method, &reference, chunk))
                        .collect();
                }
                let text = |value: &'_ Value| value.as_str().expect("text").to_owned();
                let reference: Vec<String> = case["reference"]
                    .as_array()
                    .expect("values")
                    .iter()
                    .map(text)
                    .collect();
                let reference: Vec<&str> = reference.iter().map(String::as_str).collect();
                let all: Vec<&str> = chunked
                    .iter()
                    .map(|value| value.as_str().expect("text"))
                    .collect();
                all.chunks(size)
                    .map(|chunk| chunk_of_levels(method, &reference, chunk))
                    .collect()
            };
            let (of_reference, of_analysis) = (values("reference"), values("analysis"));
            // From 10,000 rows on NannyML reads these two off a grid over the reference's range.
            let on_grid = continuous
                && numbers(&case["reference"]).len() >= 10_000
                && ["kolmogorov_smirnov", "wasserstein"].contains(&method.as_str());
            let tolerance = if on_grid { 1e-3 } else { 1e-8 };
            for (got, name) in [(&of_reference, "reference_values"), (&of_analysis, "values")] {
                let wanted = numbers(&want[name]);
                assert_eq!(got.len(), wanted.len(), "{id} {method}: chunks");
                for (got, want) in got.iter().zip(wanted) {
                    assert!(
                        (got - want).abs() <= tolerance * want.abs().max(1.0),
                        "{id} {method}: {got}, expected {want}"
                    );
                }
            }
            if let Some(threshold) = want["upper_threshold"].as_f64() {
                let got = nannyml::upper_threshold(&of_reference).unwrap();
                assert!(
                    (got - threshold).abs() <= tolerance * threshold.max(1.0),
                    "{id} {method}: threshold {got}, expected {threshold}"
                );
                let alerts: Vec<Value> = of_analysis
                    .iter()
                    .map(|value| Value::Bool(*value > got))
                    .collect();
                assert_eq!(Some(&alerts), want["alert"].as_array(), "{id} {method}: alerts");
            }
        }
    }
}

#[test]
fn a_data_set_is_judged_as_evidently_does() {
    for (id, case) in cases("dataset.json") {
        let expected = &case["expected"]["evidently"];
        let columns = expected["columns"].as_object().expect("columns");
        let mut drifted = 0;
        for (name, want) in columns {
            let of = |side: &str| case[side][name].as_array().expect("values").clone();
            let numeric = case["numerical"]
                .as_array()
                .expect("names")
                .contains(&Value::from(name.as_str()));
            let (r, c) = (of("reference"), of("current"));
            let text = |values: &[Value]| -> Vec<String> {
                let known = values.iter().filter(|value| !value.is_null());
                known.map(ToString::to_string).collect()
            };
            let (r_text, c_text) = (text(&r), text(&c));
            let mut levels: Vec<&String> = r_text.iter().chain(&c_text).collect();
            levels.sort_unstable();
            levels.dedup();
            let count = |values: &[String]| -> Vec<u64> {
                let of = |level: &&String| values.iter().filter(|value| value == level).count() as u64;
                levels.iter().map(of).collect()
            };
            let (in_r, in_c) = (count(&r_text), count(&c_text));
            let method = evidently::default_method(numeric, r_text.len(), levels.len());
            let pair = || {
                Pair::new(
                    &numbers(&Value::from(r.clone())),
                    &numbers(&Value::from(c.clone())),
                )
                .unwrap()
            };
            let (called, value) = match method {
                Method::KolmogorovSmirnov => ("K-S p_value", kolmogorov_smirnov::p_value(&pair()).p),
                Method::ChiSquared => ("chi-square p_value", evidently::chisquare(&in_r, &in_c).unwrap()),
                Method::ZTest => ("Z-test p_value", evidently::z_test(&in_r, &in_c).unwrap()),
                Method::NormedWasserstein => (
                    "Wasserstein distance (normed)",
                    wasserstein::normed(&pair()).unwrap(),
                ),
                Method::JensenShannon => (
                    "Jensen-Shannon distance",
                    evidently::jensenshannon(&in_r, &in_c).unwrap(),
                ),
            };
            assert_eq!(Some(called), want["method"].as_str(), "{id} {name}");
            assert_eq!(
                Some(method.threshold()),
                want["threshold"].as_f64(),
                "{id} {name}"
            );
            near(&id, name, value, &want["value"], 1e-6);
            drifted += usize::from(method.is_drift(value));
        }
        assert_eq!(
            Some(drifted as f64),
            expected["drifted_columns"]["count"].as_f64(),
            "{id}"
        );
        let verdict = evidently::is_dataset_drift(drifted, columns.len());
        assert_eq!(Some(verdict), expected["dataset_drift"].as_bool(), "{id}");
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

/// The values of a stream.
fn stream_of(case: &Value) -> Vec<f64> {
    case["bits"].as_str().map_or_else(
        || numbers(&case["values"]),
        |bits| {
            bits.chars()
                .map(|bit| if bit == '1' { 1.0 } else { 0.0 })
                .collect()
        },
    )
}

struct Streamed {
    drift_at: Vec<usize>,
    warning_starts_at: Vec<usize>,
}

/// Runs a stream through a detector, which is saved and restored again and again on its way.
fn streamed<D: StreamDetector + Serialize + DeserializeOwned>(
    mut detector: D,
    values: &[f64],
) -> (Streamed, D) {
    let mut found = Streamed {
        drift_at: Vec::new(),
        warning_starts_at: Vec::new(),
    };
    let mut warned = false;
    for (at, value) in values.iter().enumerate() {
        let signal = detector.update(*value).unwrap();
        if let Signal::Drift { began } = signal {
            assert!(began <= at as u64, "a change began after it was seen");
            found.drift_at.push(at);
        }
        let warns = signal == Signal::Warning;
        if warns && !warned {
            found.warning_starts_at.push(at);
        }
        warned = warns;
        if at % 97 == 0 {
            let saved = serde_json::to_string(&detector).unwrap();
            detector = serde_json::from_str(&saved).unwrap();
        }
    }
    (found, detector)
}

fn positions(value: &Value) -> Vec<usize> {
    counts(value)
        .into_iter()
        .map(|at| usize::try_from(at).unwrap())
        .collect()
}

#[test]
fn detectors_on_streams_speak_where_those_of_river_do() {
    let mut compared = 0;
    for (id, case) in cases("streams.json") {
        let values = stream_of(&case);
        let wanted = case["expected"]["river"].as_object().expect("detectors");
        for (name, want) in wanted {
            let given = &want["parameters"];
            let number = |key: &str, default: f64| given[key].as_f64().unwrap_or(default);
            let count = |key: &str, default: u64| given[key].as_u64().unwrap_or(default);
            let two_sided = given["two_sided_test"].as_bool().unwrap_or(false);
            let kind = name.split('_').next().unwrap_or_default();
            let found = match (kind, name.as_str()) {
                ("ADWIN", _) => {
                    let settings = AdwinSettings {
                        delta: number("delta", 0.002),
                        clock: count("clock", 32),
                        max_buckets: 5,
                        min_window: count("min_window_length", 5),
                        grace_period: count("grace_period", 10),
                    };
                    let (found, adwin) = streamed(Adwin::new(settings).unwrap(), &values);
                    near(&id, name, adwin.width() as f64, &want["final_width"], 1e-9);
                    near(&id, name, adwin.mean(), &want["final_mean"], 1e-9);
                    near(
                        &id,
                        name,
                        adwin.squared_deviations(),
                        &want["final_variance"],
                        1e-9,
                    );
                    found
                }
                ("PageHinkley", _) => {
                    let settings = PageHinkleySettings {
                        min_instances: count("min_instances", 30),
                        delta: number("delta", 0.005),
                        threshold: number("threshold", 50.0),
                        alpha: number("alpha", 1.0 - 0.0001),
                        sides: match given["mode"].as_str() {
                            Some("up") => Sides::Up,
                            Some("down") => Sides::Down,
                            _ => Sides::Both,
                        },
                    };
                    streamed(PageHinkley::new(settings).unwrap(), &values).0
                }
                // Needs Python's random numbers.
                ("KSWIN", "KSWIN_default_seed_7_informative") => continue,
                ("KSWIN", _) => {
                    let settings = KswinSettings {
                        alpha: number("alpha", 0.005),
                        window: usize::try_from(count("window_size", 100)).unwrap(),
                        recent: usize::try_from(count("stat_size", 30)).unwrap(),
                    };
                    streamed(Kswin::new(settings).unwrap(), &values).0
                }
                ("DDM", _) => {
                    let settings = DdmSettings {
                        warm_start: count("warm_start", 30),
                        warning: number("warning_threshold", 2.0),
                        drift: number("drift_threshold", 3.0),
                    };
                    streamed(Ddm::new(settings).unwrap(), &values).0
                }
                ("EDDM", _) => {
                    let settings = EddmSettings {
                        warm_start: count("warm_start", 30),
                        warning: number("alpha", 0.95),
                        drift: number("beta", 0.9),
                    };
                    streamed(Eddm::new(settings).unwrap(), &values).0
                }
                ("HDDM", name) if name.starts_with("HDDM_A") => {
                    let settings = HddmASettings {
                        drift_confidence: number("drift_confidence", 0.001),
                        warning_confidence: number("warning_confidence", 0.005),
                        two_sided,
                    };
                    streamed(HddmA::new(settings).unwrap(), &values).0
                }
                ("HDDM", name) if name.starts_with("HDDM_W") => {
                    let settings = HddmWSettings {
                        drift_confidence: number("drift_confidence", 0.001),
                        warning_confidence: number("warning_confidence", 0.005),
                        lambda: number("lambda_val", 0.05),
                        two_sided,
                    };
                    streamed(HddmW::new(settings).unwrap(), &values).0
                }
                other => panic!("{id}: there is no detector {other:?} here"),
            };
            compared += 1;
            assert_eq!(
                found.drift_at,
                positions(&want["drift_at"]),
                "{id} {name}: drifts"
            );
            if !want["warning_starts_at"].is_null() {
                let wanted = positions(&want["warning_starts_at"]);
                assert_eq!(found.warning_starts_at, wanted, "{id} {name}: warnings");
            }
        }
    }
    println!("{compared} streams were compared");
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

#[test]
fn performance_measures_as_scikit_learn_does() {
    for (id, case) in cases("performance.json") {
        let want = &case["expected"]["scikit_learn"];
        let labels = case["y_true"].as_array().expect("labels");
        let (mut scores, mut frauds) = (Vec::new(), Vec::new());
        for (score, label) in numbers(&case["score"]).into_iter().zip(labels) {
            if let Some(label) = label.as_f64() {
                scores.push(score);
                frauds.push(label == 1.0);
            }
        }
        let ranking = Ranking::new(&scores, &frauds).unwrap();
        let confusion = ranking.confusion_at(case["threshold"].as_f64().expect("a threshold"));
        assert_eq!(Some(ranking.rows()), want["n_labelled"].as_u64(), "{id}");
        for (name, got) in [
            ("tp", confusion.true_positives),
            ("fp", confusion.false_positives),
            ("fn", confusion.false_negatives),
            ("tn", confusion.true_negatives),
        ] {
            assert_eq!(Some(got), want[name].as_u64(), "{id}: {name}");
        }
        // scikit-learn says 0 where a rate has no value.
        for (name, got) in [
            ("recall", confusion.recall().value()),
            ("precision_zero_division_0", confusion.precision().value()),
            ("f1", confusion.f1()),
            ("accuracy", confusion.accuracy().value()),
            ("specificity", confusion.specificity().value()),
            ("mcc", confusion.matthews()),
            ("brier", ranking.brier()),
            ("log_loss", ranking.log_loss()),
            ("roc_auc", ranking.roc_auc().ok()),
            ("average_precision", ranking.average_precision().ok()),
        ] {
            near(&id, name, got.unwrap_or(0.0), &want[name], 1e-12);
        }
    }
}
