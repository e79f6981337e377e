//! Who hears about what: the table of `decide.rs`, checked.

use notifier::alert::{Alert, FACTS_MAX, MOVEMENTS_MAX, Severity};
use notifier::decide::{Decision, Silence, decide};
use schemas::events::{
    AlertSent, Channel, DeclineReason, DriftCheckRequested, DriftKind, DriftSeverity, Priority,
    PromotionKind, PromotionRefusal, ValidationVerdict, Verdict,
};
use schemas::{Event, Finite, Share};

use crate::samples;

fn decided(event: &Event) -> Decision {
    decide(event, &samples::attributes(event, "fraud-cards"))
}

pub fn told(event: &Event) -> Alert {
    match decided(event) {
        Decision::Tell(alert) => *alert,
        Decision::Silent(silence) => panic!("nobody was told: {}", silence.as_str()),
    }
}

#[test]
fn each_event_is_told_with_its_severity() {
    use Severity::{Critical, High, Low, Medium};
    let cases: Vec<(Event, Severity, &str)> = vec![
        (
            samples::drift_detected(DriftSeverity::Immediate).into(),
            Critical,
            "[CRITICAL] Fraud Detection Alert: data, target and concept drift in fraud-cards",
        ),
        (
            samples::drift_detected(DriftSeverity::High).into(),
            High,
            "[HIGH] Fraud Detection Alert: data drift in fraud-cards",
        ),
        (
            samples::drift_detected(DriftSeverity::Medium).into(),
            Medium,
            "[MEDIUM] Fraud Detection Alert: data drift in fraud-cards",
        ),
        (
            samples::drift_detected(DriftSeverity::AlertOnly).into(),
            Medium,
            "[MEDIUM] Fraud Detection Alert: target drift in fraud-cards",
        ),
        (
            samples::drift_checked(Verdict::Unknown, Some(Verdict::Stable)).into(),
            Medium,
            "[MEDIUM] Fraud Detection Alert: drift is unknown in fraud-cards",
        ),
        (
            samples::retrain_requested(Priority::Immediate).into(),
            Critical,
            "[CRITICAL] Fraud Detection Alert: retraining of fraud-cards requested",
        ),
        (
            samples::retrain_requested(Priority::High).into(),
            High,
            "[HIGH] Fraud Detection Alert: retraining of fraud-cards requested",
        ),
        (
            samples::retrain_requested(Priority::Medium).into(),
            Medium,
            "[MEDIUM] Fraud Detection Alert: retraining of fraud-cards requested",
        ),
        (
            samples::retrain_requested(Priority::Scheduled).into(),
            Low,
            "[LOW] Fraud Detection Alert: retraining of fraud-cards requested",
        ),
        (
            samples::retrain_declined(DeclineReason::BreakerOpen).into(),
            High,
            "[HIGH] Fraud Detection Alert: trainings do not cure fraud-cards",
        ),
        (
            samples::training_failed().into(),
            High,
            "[HIGH] Fraud Detection Alert: training of fraud-cards failed",
        ),
        (
            samples::model_validated(ValidationVerdict::Failed).into(),
            High,
            "[HIGH] Fraud Detection Alert: candidate fraud-cards-20180720T020000Z of fraud-cards failed validation",
        ),
        (
            samples::promotion_refused(PromotionRefusal::Artifact).into(),
            High,
            "[HIGH] Fraud Detection Alert: fraud-cards-20180720T020000Z of fraud-cards was not promoted",
        ),
        (
            samples::promotion_refused(PromotionRefusal::Superseded).into(),
            Low,
            "[LOW] Fraud Detection Alert: fraud-cards-20180720T020000Z of fraud-cards was not promoted",
        ),
        (
            samples::model_promoted(PromotionKind::Promotion).into(),
            Low,
            "[LOW] Fraud Detection Alert: fraud-cards-20180720T020000Z is champion of fraud-cards",
        ),
        (
            samples::model_promoted(PromotionKind::Rollback).into(),
            High,
            "[HIGH] Fraud Detection Alert: fraud-cards was rolled back to fraud-cards-20180720T020000Z",
        ),
    ];
    for (event, severity, subject) in cases {
        let alert = told(&event);
        assert_eq!((alert.severity, alert.subject().as_str()), (severity, subject));
        assert_eq!(alert.about.event_type, event.kind().ce_type());
        assert!(!alert.next.is_empty(), "{subject} does not say what now");
        assert!(alert.facts.len() <= FACTS_MAX);
    }
}

#[test]
fn silence_has_a_reason() {
    let cases: Vec<(Event, Silence)> = vec![
        (
            samples::drift_checked(Verdict::Stable, Some(Verdict::Unknown)).into(),
            Silence::CheckCouldLook,
        ),
        (
            samples::drift_checked(Verdict::Drifted, None).into(),
            Silence::CheckCouldLook,
        ),
        (
            samples::retrain_declined(DeclineReason::Cooldown).into(),
            Silence::NotForPeople,
        ),
        (
            samples::model_validated(ValidationVerdict::Passed).into(),
            Silence::CandidatePassed,
        ),
        (
            DriftCheckRequested {
                as_of: samples::at("2018-07-20T02:00:00Z"),
                requested_by: "cli:alice".to_owned(),
                reason: String::new(),
            }
            .into(),
            Silence::NotForPeople,
        ),
        (
            // An alert about an alert would never end.
            AlertSent {
                alert_id: schemas::AlertId::fresh(),
                about_event: schemas::EventId::fresh(),
                about_type: "vigie.drift.detected.v1".to_owned(),
                channel: Channel::Email,
                recipient: "a***@example.org".to_owned(),
                severity: "HIGH".to_owned(),
                subject: "x".to_owned(),
                attempts: 1,
            }
            .into(),
            Silence::NotForPeople,
        ),
    ];
    for (event, silence) in cases {
        assert_eq!(decided(&event), Decision::Silent(silence), "{}", event.kind());
    }
}

#[test]
fn unknown_is_told_when_it_begins_whatever_was_before() {
    for previous in [None, Some(Verdict::Stable), Some(Verdict::Drifted)] {
        let alert = told(&samples::drift_checked(Verdict::Unknown, previous).into());
        assert!(alert.what.contains("could not look"), "{}", alert.what);
        assert!(
            alert.facts.iter().any(|fact| fact.value.contains("too_few_rows")),
            "{:?}",
            alert.facts
        );
        assert!(
            !alert
                .facts
                .iter()
                .any(|fact| fact.value.contains("labels_not_ripe")),
            "an expected wait is no cause"
        );
    }
    let mut first = samples::drift_checked(Verdict::Unknown, None);
    first.champion = None;
    assert_eq!(told(&first.into()).severity, Severity::Low);
}

#[test]
fn an_episode_is_one_occasion_until_its_severity_changes() {
    let mut later = samples::drift_detected(DriftSeverity::High);
    later.as_of = samples::at("2018-07-20T03:00:00Z");
    later.consecutive = 5;
    let mut next_episode = later.clone();
    next_episode.since = samples::at("2018-07-25T03:00:00Z");
    let first = told(&samples::drift_detected(DriftSeverity::High).into()).occasion;
    assert_eq!(told(&later.into()).occasion, first);
    assert_ne!(told(&next_episode.into()).occasion, first);
    assert_ne!(
        told(&samples::drift_detected(DriftSeverity::Immediate).into()).occasion,
        first
    );
}

/// The replaced pipeline's rule for a degraded model raised a `KeyError` instead of an alert.
#[test]
fn a_degraded_model_is_told_as_critical_though_nothing_else_moved() {
    let mut drift = samples::drift_detected(DriftSeverity::Immediate);
    drift.kinds = vec![DriftKind::Concept];
    drift.features.clear();
    drift.target = None;
    drift.data_drift = None;
    let alert = told(&drift.into());
    assert_eq!(
        alert.subject(),
        "[CRITICAL] Fraud Detection Alert: concept drift in fraud-cards"
    );
    assert_eq!(
        alert.facts[0].value,
        "71.0 % on 1,284 known frauds; 86.0 % at validation; 84.8 % (95 %: 81.8 % to 87.4 %) by the scores"
    );
    assert_eq!(
        alert.facts[1].value,
        "0.150 (between 0.080 and 0.220); the scores do not explain it: a score may mean something else now"
    );
    assert!(
        alert.facts.iter().all(|fact| !fact.name.contains("Estimated")),
        "what was realised is not followed by what was hoped for"
    );
    assert!(alert.moved.is_empty());
}

#[test]
fn before_labels_are_known_people_are_told_what_scores_let_estimate() {
    let mut drift = samples::drift_detected(DriftSeverity::High);
    drift.concept = None;
    let alert = told(&drift.clone().into());
    let fact = alert
        .facts
        .iter()
        .find(|fact| fact.name == "Estimated by the scores");
    assert_eq!(
        fact.map(|fact| fact.value.as_str()),
        Some(
            "recall 84.1 % (95 %: 79.0 % to 88.2 %), precision 77.2 % (95 %: 69.2 % to 84.0 %) of 9,520 rows, if a score means what it meant at validation"
        )
    );
    let scores = |alert: &Alert| {
        let fact = alert.facts.iter().find(|fact| fact.name == "Scores");
        fact.map(|fact| fact.value.clone())
    };
    assert_eq!(
        scores(&alert).as_deref(),
        Some("PSI 0.0712 beside those of the validation (chance: 0.0094); flagged rows 0.91 % → 2.13 %")
    );
    // Nothing is made up where nothing is estimated.
    if let Some(estimated) = &mut drift.estimated {
        (estimated.recall, estimated.precision) = (None, None);
    }
    if let Some(prediction) = &mut drift.prediction {
        prediction.beyond_chance = false;
    }
    let alert = told(&drift.into());
    assert!(
        alert
            .facts
            .iter()
            .all(|fact| fact.name != "Estimated by the scores")
    );
    assert_eq!(scores(&alert), None, "no more than chance");
}

/// It also graded a falling fraud rate as harmless, because it forgot the absolute value.
#[test]
fn a_falling_fraud_rate_is_told_with_its_sign() {
    let mut drift = samples::drift_detected(DriftSeverity::AlertOnly);
    if let Some(target) = &mut drift.target {
        target.current_rate = Share::new(0.00164).unwrap();
        target.relative_change = Some(Finite::new(-0.6).unwrap());
    }
    let alert = told(&drift.into());
    assert_eq!(alert.severity, Severity::Medium);
    assert!(
        alert
            .facts
            .iter()
            .any(|fact| fact.value == "0.16 % against 0.41 % in the reference (-60 %)"),
        "{:?}",
        alert.facts
    );
}

#[test]
fn models_do_not_share_an_occasion() {
    let event: Event = samples::drift_detected(DriftSeverity::High).into();
    let occasion = |model: &str| match decide(&event, &samples::attributes(&event, model)) {
        Decision::Tell(alert) => alert.occasion,
        Decision::Silent(_) => panic!("nobody was told"),
    };
    assert_ne!(occasion("fraud-cards"), occasion("fraud-transfers"));
}

#[test]
fn a_hundred_moved_features_are_counted_not_listed() {
    let mut drift = samples::drift_detected(DriftSeverity::High);
    drift.features = (0..100)
        .map(|n| samples::feature(&format!("v{n}"), 0.9, 0.3, 0.01))
        .collect();
    let alert = told(&drift.into());
    assert_eq!(
        (alert.moved.len(), alert.moved_unlisted),
        (MOVEMENTS_MAX, 100 - MOVEMENTS_MAX)
    );
}

#[test]
fn only_web_addresses_become_links() {
    for (url, kept) in [
        ("https://adb-1.azuredatabricks.net/#job/7/run/1", true),
        ("http://mlflow:5000/#/experiments/1", true),
        ("javascript:alert(1)", false),
        ("data:text/html,x", false),
        ("file:///etc/passwd", false),
        ("not an address", false),
    ] {
        let mut failed = samples::training_failed();
        failed.run_url = Some(url.to_owned());
        assert_eq!(told(&failed.into()).link.is_some(), kept, "{url}");
    }
}
