//! The conventions of evidently and NannyML, value by value and chunk by chunk.

use drift_stats::compat::evidently::{self, Method};
use drift_stats::compat::{count_values, nannyml};
use drift_stats::contingency::{self, Correction};
use drift_stats::pca::Reconstruction;
use drift_stats::samples::mann_whitney::Alternative;
use drift_stats::samples::{
    Pair, anderson_darling, cramer_von_mises, energy, kolmogorov_smirnov, mann_whitney, student, wasserstein,
};
use drift_stats::{Unusable, hellinger, l_infinity};
use serde_json::Value;

use crate::support::{cases, counts, level_counts, near, near_p, numbers};

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
