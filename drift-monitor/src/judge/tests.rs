//! Verdicts as tables.

use super::*;

fn limits(aggregate: Aggregate) -> Limits {
    Limits {
        data_tell: 0.3,
        data_threshold: 0.3,
        data_threshold_high: 0.5,
        aggregate,
        share_threshold: 0.5,
        target_threshold: 0.5,
        recall_threshold: 0.05,
        precision_threshold: 0.10,
        rows_min: 500,
        frauds_min: 100,
        clear: 1.0,
        consecutive: 1,
        evidence: Evidence::once(0.01, 0.95),
    }
}

fn judge(limits: &Limits, measured: &[Measured], missing: &[NotMeasured]) -> Judgement {
    super::judge(limits, measured, missing, &Before::default())
}

fn measured(name: MetricName, value: f64, noise: f64) -> Measured {
    let feature = (name == MetricName::Psi).then(|| "amount".to_owned());
    Measured {
        name,
        feature,
        weight: 1.0,
        value: Finite::new(value).unwrap(),
        noise: Finite::new(noise).unwrap(),
        unrest: Finite::new(noise).unwrap(),
    }
}

fn psi(value: f64, noise: f64) -> Measured {
    measured(MetricName::Psi, value, noise)
}

fn target(value: f64, noise: f64) -> Measured {
    measured(MetricName::FraudRateChange, value, noise)
}

fn recall(value: f64, noise: f64) -> Measured {
    measured(MetricName::RecallDrop, value, noise)
}

fn precision(value: f64, noise: f64) -> Measured {
    measured(MetricName::PrecisionDrop, value, noise)
}

#[test]
fn a_feature_that_moved_a_little_is_told_and_not_trained_for() {
    let sensitive = Limits {
        data_tell: 0.002,
        ..limits(Aggregate::Max)
    };
    let cases = [
        ("within the noise", psi(0.01, 0.02), None, 0),
        ("less than anybody wants to hear of", psi(0.001, 0.000_1), None, 0),
        (
            "more than chance",
            psi(0.01, 0.004),
            Some(DriftSeverity::AlertOnly),
            1,
        ),
        ("the threshold", psi(0.31, 0.004), Some(DriftSeverity::Medium), 1),
        ("severe", psi(0.51, 0.004), Some(DriftSeverity::High), 1),
    ];
    for (case, metric, severity, moved) in cases {
        let judged = judge(&sensitive, &[metric], &[]);
        assert_eq!((judged.severity, judged.moved.len()), (severity, moved), "{case}");
        let verdict = if severity.is_some() {
            Verdict::Drifted
        } else {
            Verdict::Stable
        };
        assert_eq!(judged.verdict, verdict, "{case}");
    }
    // A reference that moves as much itself explains little shifts, and never hides one above the threshold.
    for (value, verdict) in [(0.01, Verdict::Stable), (0.31, Verdict::Drifted)] {
        let restless = Measured {
            unrest: Finite::new(0.5).unwrap(),
            ..psi(value, 0.004)
        };
        assert_eq!(judge(&sensitive, &[restless], &[]).verdict, verdict, "{value}");
    }
    // The mean alone decides where nobody wants to hear of less.
    let mean = limits(Aggregate::Mean);
    let judged = judge(&mean, &[psi(0.4, 0.01), psi(0.0, 0.01)], &[]);
    assert_eq!((judged.verdict, judged.moved.len()), (Verdict::Stable, 1));
}

fn missing(blocks_verdict: bool) -> Vec<NotMeasured> {
    vec![NotMeasured {
        kind: DriftKind::Concept,
        reason: "labels_not_ripe".into(),
        detail: "0 of 100 frauds".into(),
        blocks_verdict,
    }]
}

#[test]
fn thresholds_and_noise_must_both_be_exceeded() {
    use DriftKind::{Concept, Data, Target};
    use DriftSeverity::{AlertOnly, High, Immediate, Medium};
    type Case = (&'static str, Vec<Measured>, Vec<DriftKind>, Option<DriftSeverity>);
    let cases: [Case; 16] = [
        ("nothing moved", vec![psi(0.02, 0.01)], vec![], None),
        (
            "the threshold itself is no drift",
            vec![psi(0.3, 0.01)],
            vec![],
            None,
        ),
        (
            "a hair above",
            vec![psi(0.300_001, 0.01)],
            vec![Data],
            Some(Medium),
        ),
        (
            "high itself is medium",
            vec![psi(0.5, 0.01)],
            vec![Data],
            Some(Medium),
        ),
        ("above high", vec![psi(0.51, 0.01)], vec![Data], Some(High)),
        ("50 rows explain a PSI of 0.4", vec![psi(0.4, 0.45)], vec![], None),
        (
            "one feature of many is enough",
            vec![psi(0.01, 0.01), psi(0.35, 0.02)],
            vec![Data],
            Some(Medium),
        ),
        (
            "fraud rate up",
            vec![target(0.6, 0.2)],
            vec![Target],
            Some(AlertOnly),
        ),
        (
            "fraud rate down counts alike",
            vec![target(-0.6, 0.2)],
            vec![Target],
            Some(AlertOnly),
        ),
        (
            "a change that few frauds explain",
            vec![target(0.6, 0.7)],
            vec![],
            None,
        ),
        (
            "recall dropped",
            vec![recall(0.06, 0.04)],
            vec![Concept],
            Some(Immediate),
        ),
        ("recall rose", vec![recall(-0.2, 0.04)], vec![], None),
        (
            "precision has a threshold of its own",
            vec![precision(0.09, 0.04)],
            vec![],
            None,
        ),
        (
            "precision dropped",
            vec![precision(0.11, 0.04)],
            vec![Concept],
            Some(Immediate),
        ),
        (
            "a drop within the interval",
            vec![recall(0.06, 0.07)],
            vec![],
            None,
        ),
        (
            "everything at once is immediate",
            vec![psi(0.9, 0.1), target(2.0, 0.1), precision(0.2, 0.1)],
            vec![Data, Target, Concept],
            Some(Immediate),
        ),
    ];
    for (case, measured, drifted, severity) in cases {
        let judgement = judge(&limits(Aggregate::Max), &measured, &[]);
        assert_eq!(
            (judgement.drifted, judgement.severity),
            (drifted.clone(), severity),
            "{case}"
        );
        let expected = if drifted.is_empty() {
            Verdict::Stable
        } else {
            Verdict::Drifted
        };
        assert_eq!(judgement.verdict, expected, "{case}");
    }
}

#[test]
fn could_not_look_is_never_stable_and_never_hides_what_was_seen() {
    for (measured, missing, verdict) in [
        (vec![], missing(true), Verdict::Unknown),
        (vec![psi(0.01, 0.01)], missing(true), Verdict::Unknown),
        (vec![psi(0.9, 0.01)], missing(true), Verdict::Drifted),
        (vec![psi(0.01, 0.01)], missing(false), Verdict::Stable),
    ] {
        assert_eq!(
            judge(&limits(Aggregate::Max), &measured, &missing).verdict,
            verdict
        );
    }
}

#[test]
fn the_models_value_can_be_the_mean_or_the_share() {
    let features = [psi(0.9, 0.01), psi(0.1, 0.01), psi(0.1, 0.01), psi(0.1, 0.01)];
    let of = |aggregate| judge(&limits(aggregate), &features, &[]);
    assert_eq!(of(Aggregate::Max).severity, Some(DriftSeverity::High));
    let mean = of(Aggregate::Mean);
    assert!((mean.data_drift.unwrap() - 0.3).abs() < 1e-12);
    assert_eq!(of(Aggregate::ShareOfFeatures).drifted, []);
    assert_eq!(of(Aggregate::ShareOfFeatures).data_drift, Some(0.25));
    let half = [psi(0.9, 0.01), psi(0.4, 0.01), psi(0.1, 0.01), psi(0.1, 0.01)];
    assert_eq!(
        judge(&limits(Aggregate::ShareOfFeatures), &half, &[]).severity,
        Some(DriftSeverity::Medium)
    );
}

/// The judgements of checks that follow each other, of one model and champion.
fn in_turn(limits: &Limits, checks: &[Vec<Measured>]) -> Vec<Judgement> {
    let mut before = Before::default();
    let mut all = Vec::new();
    for measured in checks {
        let judgement = super::judge(limits, measured, &[], &before);
        before = Before::of_metrics(&judgement.metrics);
        all.push(judgement);
    }
    all
}

fn verdicts(judgements: &[Judgement]) -> Vec<bool> {
    judgements
        .iter()
        .map(|judgement| judgement.verdict == Verdict::Drifted)
        .collect()
}

#[test]
fn as_many_checks_in_a_row_as_are_asked_for_make_a_drift() {
    let patient = Limits {
        consecutive: 3,
        ..limits(Aggregate::Max)
    };
    let of = |values: &[f64]| -> Vec<Vec<Measured>> {
        values.iter().map(|value| vec![psi(*value, 0.01)]).collect()
    };
    let found = in_turn(&patient, &of(&[0.4, 0.4, 0.1, 0.4, 0.4, 0.4, 0.4, 0.1]));
    let expected = [false, false, false, false, false, true, true, false];
    assert_eq!(verdicts(&found), expected);
    let runs: Vec<u32> = found
        .iter()
        .map(|judgement| judgement.metrics[0].in_a_row)
        .collect();
    assert_eq!(runs, [1, 2, 0, 1, 2, 3, 4, 0]);
    // Recall and the mean wait as long.
    let recalls: Vec<Vec<Measured>> = (0..3).map(|_| vec![recall(0.2, 0.01)]).collect();
    assert_eq!(verdicts(&in_turn(&patient, &recalls)), [false, false, true]);
    let mean = Limits {
        aggregate: Aggregate::Mean,
        ..patient
    };
    assert_eq!(verdicts(&in_turn(&mean, &of(&[0.4; 3]))), [false, false, true]);
    // Two features that take turns are no run of either.
    let other = |value| Measured {
        feature: Some("hour".to_owned()),
        ..psi(value, 0.01)
    };
    let turns: Vec<Vec<Measured>> = (0..6)
        .map(|at| {
            let (one, two) = if at % 2 == 0 { (0.4, 0.0) } else { (0.0, 0.4) };
            vec![psi(one, 0.01), other(two)]
        })
        .collect();
    assert_eq!(verdicts(&in_turn(&patient, &turns)), [false; 6]);
}

#[test]
fn what_exceeded_is_over_below_a_lower_level_only() {
    let sticky = Limits {
        clear: 0.8,
        data_tell: 0.1,
        ..limits(Aggregate::Max)
    };
    let of = |values: &[f64]| -> Vec<Vec<Measured>> {
        values.iter().map(|value| vec![psi(*value, 0.01)]).collect()
    };
    let found = in_turn(&sticky, &of(&[0.29, 0.31, 0.25, 0.23, 0.25, 0.085, 0.05, 0.085]));
    let severities: Vec<_> = found.iter().map(|judgement| judgement.severity).collect();
    use DriftSeverity::{AlertOnly, Medium};
    let expected = [
        Some(AlertOnly),
        Some(Medium),
        Some(Medium),
        Some(AlertOnly),
        Some(AlertOnly),
        Some(AlertOnly),
        None,
        None,
    ];
    assert_eq!(severities, expected);
    assert!(
        (found[2].metrics[0].threshold.get() - 0.24).abs() < 1e-12,
        "the level in force is said"
    );
    // Noise is noise, whatever was before.
    let noisy = in_turn(&sticky, &[vec![psi(0.4, 0.01)], vec![psi(0.29, 0.35)]]);
    assert_eq!(verdicts(&noisy), [true, false]);
    // The mean is sticky too, and a falling fraud rate.
    let mean = Limits {
        aggregate: Aggregate::Mean,
        data_tell: 0.3,
        ..sticky
    };
    assert_eq!(
        verdicts(&in_turn(&mean, &of(&[0.31, 0.25, 0.23]))),
        [true, true, false]
    );
    let falls: Vec<Vec<Measured>> = [-0.6, -0.45, -0.35]
        .map(|change| vec![target(change, 0.1)])
        .into();
    assert_eq!(verdicts(&in_turn(&sticky, &falls)), [true, true, false]);
}

#[test]
fn features_count_by_their_weights() {
    let weighed = |name: &str, weight, value| Measured {
        feature: Some(name.to_owned()),
        weight,
        ..psi(value, 0.01)
    };
    let features = [
        weighed("amount", 3.0, 0.1),
        weighed("hour", 1.0, 0.9),
        weighed("row", 0.0, 5.0),
    ];
    let of = |aggregate| judge(&limits(aggregate), &features, &[]);
    let largest = of(Aggregate::Max);
    assert_eq!(
        (largest.data_drift, largest.severity),
        (Some(0.9), Some(DriftSeverity::High))
    );
    assert_eq!(
        largest.moved.len(),
        2,
        "what does not count is shown all the same"
    );
    let mean = of(Aggregate::Mean);
    assert!(
        (mean.data_drift.unwrap() - 0.3).abs() < 1e-12,
        "{:?}",
        mean.data_drift
    );
    assert_eq!(of(Aggregate::ShareOfFeatures).data_drift, Some(0.25));
    let ignored = [weighed("amount", 1.0, 0.1), weighed("row", 0.0, 5.0)];
    assert_eq!(
        judge(&limits(Aggregate::Max), &ignored, &[]).verdict,
        Verdict::Stable
    );
    let nothing = [weighed("row", 0.0, 5.0)];
    for aggregate in [Aggregate::Max, Aggregate::Mean, Aggregate::ShareOfFeatures] {
        assert_eq!(judge(&limits(aggregate), &nothing, &[]).verdict, Verdict::Stable);
    }
}

#[test]
fn mean_and_share_are_metrics_of_their_own() {
    let features = [psi(0.9, 0.01), psi(0.1, 0.01)];
    for (aggregate, name, value) in [
        (Aggregate::Max, None, 0.0),
        (Aggregate::Mean, Some("psi_mean"), 0.5),
        (Aggregate::ShareOfFeatures, Some("drifting_share"), 0.5),
    ] {
        let metrics = judge(&limits(aggregate), &features, &[]).metrics;
        let own = metrics.iter().find(|metric| metric.feature.is_none());
        assert_eq!(own.map(|metric| metric.name.as_str()), name);
        assert!(own.is_none_or(|metric| metric.exceeded && metric.value.get() == value));
    }
}
