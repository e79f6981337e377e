//! What can be measured, and what says why it cannot.

use std::sync::LazyLock;

use drift_stats::binning::{BinSettings, FeatureBins, NumericBins};
use drift_stats::outcome::Known;
use drift_stats::profile::Values;
use schemas::ModelVersion;

use super::*;
use crate::judge::{Aggregate, Evidence};

fn limits() -> Limits {
    Limits {
        data_tell: 0.3,
        data_threshold: 0.3,
        data_threshold_high: 0.5,
        aggregate: Aggregate::Max,
        share_threshold: 0.5,
        target_threshold: 0.5,
        recall_threshold: 0.05,
        precision_threshold: 0.10,
        rows_min: 100,
        frauds_min: 50,
        clear: 1.0,
        consecutive: 1,
        evidence: Evidence::once(0.01, 0.98),
    }
}

fn profile(bins: &[FeatureBins], values: &[f64]) -> Profile {
    let mut profile = Profile::empty(bins);
    profile.add(bins, &[Values::Numbers(values)]).unwrap();
    profile
}

fn reference(labelled: u64, frauds: u64) -> Reference {
    let values: Vec<f64> = (0..5_000).map(f64::from).collect();
    let bins = vec![FeatureBins::Numeric(NumericBins::fit(
        &values,
        &BinSettings::default(),
    ))];
    let profile = profile(&bins, &values);
    Reference {
        labelled,
        frauds,
        ..Reference::of_counts(vec!["amount".into()], bins, profile)
    }
}

fn outcome(
    frauds_found: u32,
    frauds_missed: u32,
    false_alarms: u32,
    let_through: u32,
    unknown: u32,
) -> Outcome {
    let mut outcome = Outcome::empty(0.5);
    for (rows, score, label) in [
        (frauds_found, 0.9, Known::Fraud),
        (frauds_missed, 0.1, Known::Fraud),
        (false_alarms, 0.9, Known::Genuine),
        (let_through, 0.1, Known::Genuine),
        (unknown, 0.1, Known::Unknown),
    ] {
        for _ in 0..rows {
            outcome.add(score, label);
        }
    }
    outcome
}

fn at(hour: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
}

fn champion() -> Champion {
    Champion {
        version: ModelVersion::new("v1").unwrap(),
        promoted_as_of: at(0),
        training_window: Window::new(at(-100), at(-1)).unwrap(),
        operating_threshold: 0.5,
        validated_recall: 0.9,
        validated_precision: 0.9,
        validated_frauds: 200,
        score_counts: None,
    }
}

static NOTHING: LazyLock<Outcome> = LazyLock::new(|| Outcome::empty(0.5));

fn realised(hour: i64, outcome: Option<&Outcome>) -> Realised<'_> {
    Realised {
        as_of: at(hour),
        label_delay: TimeDelta::hours(24),
        has_scores: true,
        latest: &NOTHING,
        rows: outcome.map(|outcome| (Window::new(at(0), at(hour)).unwrap(), outcome)),
    }
}

fn reasons(findings: &Findings) -> Vec<(&str, bool)> {
    findings
        .not_measured
        .iter()
        .map(|missing| (missing.reason.as_str(), missing.blocks_verdict))
        .collect()
}

#[test]
fn too_few_rows_block_the_verdict() {
    let reference = reference(5_000, 50);
    for (rows, reason) in [(0, "no_rows"), (99, "too_few_rows")] {
        let mut findings = Findings::default();
        data(
            &limits(),
            &reference,
            &profile(&reference.bins, &vec![1.0; rows]),
            &mut findings,
        );
        assert!(findings.measured.is_empty());
        assert_eq!(reasons(&findings), [(reason, true)]);
    }
    let mut findings = Findings::default();
    data(
        &limits(),
        &reference,
        &profile(&reference.bins, &[1.0; 100]),
        &mut findings,
    );
    assert_eq!((findings.measured.len(), findings.not_measured.len()), (1, 0));
    assert!(findings.measured[0].value.get() > 3.0 && findings.measured[0].noise.get() < 1.0);
}

#[test]
fn a_reference_that_is_restless_itself_explains_more() {
    let mut restless = reference(5_000, 50);
    let window = profile(&restless.bins, &[2_000.0; 500]);
    let noise = |reference: &Reference| {
        let mut findings = Findings::default();
        data(&limits(), reference, &window, &mut findings);
        let found = &findings.measured[0];
        (found.noise.get(), found.unrest.get())
    };
    let (chance, quiet) = noise(&restless);
    assert_eq!(chance, quiet);
    // So many times what chance alone gives ten bins.
    for times in [1.0, 4.0] {
        restless.between = vec![times * 9.0 * (1.0 / 5_000.0 + 1.0 / 500.0)];
        let (still, raised) = noise(&restless);
        assert_eq!(still, chance);
        assert!((raised / chance - 1.0 - times).abs() < 0.05, "{raised} {chance}");
    }
}

#[test]
fn bins_that_differ_are_a_reason_and_not_a_score() {
    let reference = reference(5_000, 50);
    let other = vec![FeatureBins::Numeric(NumericBins::fit(
        &[1.0, 2.0],
        &BinSettings::default(),
    ))];
    let mut findings = Findings::default();
    data(
        &limits(),
        &reference,
        &profile(&other, &[1.0; 500]),
        &mut findings,
    );
    assert_eq!(reasons(&findings), [("bins_differ", true)]);
}

#[test]
fn the_fraud_rate_is_compared_on_known_labels() {
    let mut findings = Findings::default();
    target(
        &limits(),
        &reference(100_000, 1_000),
        &outcome(150, 50, 0, 9_800, 500),
        &mut findings,
    );
    assert!(
        (findings.measured[0].value.get() - 1.0).abs() < 1e-12,
        "twice the rate"
    );
    assert!(findings.measured[0].noise.get() < 0.4);
    assert!(findings.target.as_ref().unwrap().p_value.get() < 1e-6);
    let mut findings = Findings::default();
    target(
        &limits(),
        &reference(100_000, 1_000),
        &outcome(0, 0, 0, 10_000, 0),
        &mut findings,
    );
    let fallen = &findings.measured[0];
    assert_eq!(fallen.value.get(), -1.0);
    assert!(
        fallen.noise.get() < 0.4,
        "a hundred frauds that stay away are no chance"
    );
}

#[test]
fn a_rate_that_cannot_be_compared_says_why() {
    let cases = [
        (reference(5_000, 50), outcome(1, 0, 0, 50, 40), "too_few_rows"),
        (reference(5_000, 50), outcome(1, 0, 0, 50, 400), "labels_overdue"),
        (
            reference(5_000, 0),
            outcome(1, 0, 0, 500, 0),
            "reference_rate_zero",
        ),
        (reference(0, 0), outcome(1, 0, 0, 500, 0), "too_few_values"),
    ];
    for (reference, window, reason) in cases {
        let mut findings = Findings::default();
        target(&limits(), &reference, &window, &mut findings);
        assert!(findings.measured.is_empty() && findings.target.is_none());
        assert_eq!(reasons(&findings), [(reason, true)]);
    }
}

#[test]
fn waiting_for_labels_is_no_alarm_until_they_are_overdue() {
    let mut silent = Outcome::empty(0.5);
    silent.add_rows(f64::NAN, Known::Unknown, 5_000);
    let (unlabelled, unscored) = (outcome(0, 0, 0, 0, 500), {
        let mut outcome = Outcome::empty(0.5);
        (0..500).for_each(|_| outcome.add(f64::NAN, Known::Genuine));
        outcome
    });
    let cases = [
        (realised(20, None), "labels_not_ripe", false),
        (realised(72, Some(&unlabelled)), "labels_not_ripe", false), // 24 h + twice the delay, inclusive
        (realised(73, Some(&unlabelled)), "labels_overdue", true),
        (realised(72, Some(&unscored)), "no_scores", false),
        (realised(73, Some(&unscored)), "no_scores", true),
        (
            Realised {
                latest: &silent,
                ..realised(20, None)
            },
            "no_scores",
            true,
        ),
        (
            Realised {
                has_scores: false,
                ..realised(1_000, Some(&unscored))
            },
            "no_score_column",
            false,
        ),
    ];
    for (realised, reason, blocks) in cases {
        let mut findings = Findings::default();
        concept(&limits(), &champion(), &realised, &mut findings);
        assert_eq!(reasons(&findings), [(reason, blocks)], "{:?}", realised.as_of);
    }
}

#[test]
fn recall_and_precision_are_compared_with_validation() {
    let window = outcome(140, 60, 70, 9_000, 0);
    let mut findings = Findings::default();
    concept(
        &limits(),
        &champion(),
        &realised(100, Some(&window)),
        &mut findings,
    );
    let [recall, precision] = findings.measured.as_slice() else {
        panic!("{findings:?}")
    };
    assert_eq!(
        (recall.name, precision.name),
        (MetricName::RecallDrop, MetricName::PrecisionDrop)
    );
    assert!((recall.value.get() - 0.2).abs() < 1e-12 && recall.noise.get() < 0.12);
    assert!((precision.value.get() - (0.9 - 140.0 / 210.0)).abs() < 1e-3);
    let concept = findings.concept.unwrap();
    assert_eq!((concept.frauds, concept.flagged), (200, Some(210)));
    assert!(concept.drop_low.get() > 0.05);
}

#[test]
fn a_rate_on_few_frauds_is_not_judged() {
    let window = outcome(30, 10, 20, 9_000, 0);
    let mut findings = Findings::default();
    concept(
        &limits(),
        &champion(),
        &realised(100, Some(&window)),
        &mut findings,
    );
    assert_eq!(
        findings.measured.len(),
        1,
        "fifty flagged rows are enough for precision"
    );
    assert_eq!(reasons(&findings), [("too_few_ripened_labels", false)]);
    assert!(findings.concept.is_some(), "what was seen is still told");
}
