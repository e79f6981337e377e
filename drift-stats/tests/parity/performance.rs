//! Performance with and without labels: scikit-learn and NannyML.

use drift_stats::cbpe;
use drift_stats::compat::nannyml;
use drift_stats::isotonic::Isotonic;
use drift_stats::performance::Ranking;

use crate::support::{cases, near, numbers};

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
        let fraud_of_reference: Vec<bool> = labels.iter().map(|label| *label == 1.0).collect();
        let errors = nannyml::SamplingErrors::of(&of_reference, &fraud_of_reference, threshold).unwrap();
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
            let sizes = looked.chunks(size).map(|chunk| chunk.len() as u64);
            for (rows, want) in sizes.zip(numbers(&want["sampling_error"])) {
                // That of the average precision is drawn by chance there.
                if metric != "average_precision" {
                    let got = errors.metric(metric, rows).expect("an error");
                    assert!(
                        (got - want).abs() <= tolerance,
                        "{id} {metric}: sampling error {got}, expected {want}"
                    );
                }
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
