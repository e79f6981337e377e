//! One event of each kind that people hear about, as the other services write them.

use chrono::{DateTime, Utc};
use schemas::events::{
    Artifact, ConceptDrift, Confusion, DeclineReason, DriftChecked, DriftDetected, DriftKind, DriftSeverity,
    EstimatedPerformance, FeatureDrift, Interval, LevelShift, MetricEstimate, ModelPromoted, ModelValidated,
    NotMeasured, PredictionDrift, Priority, PromotionKind, PromotionRefusal, PromotionRefused,
    RetrainDeclined, RetrainRequested, RuleOutcome, RuleResult, SegmentDrift, TargetDrift, TrainingFailed,
    TrainingFailure, TriggerKind, ValidationGate, ValidationVerdict, Verdict,
};
use schemas::{
    Attributes, CheckId, DecisionId, Event, EventId, Finite, JobId, ModelName, ModelVersion, Sha256Digest,
    Share, TraceContext, Window,
};
use uuid::Uuid;

pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an RFC 3339 instant")
}

pub fn window(start: &str, end: &str) -> Window {
    Window::new(at(start), at(end)).expect("a window")
}

fn finite(value: f64) -> Finite {
    Finite::new(value).expect("a finite number")
}

fn share(value: f64) -> Share {
    Share::new(value).expect("a share")
}

fn version(name: &str) -> ModelVersion {
    ModelVersion::new(name).expect("a version")
}

/// The context that a producer would have put around the event.
pub fn attributes(event: &Event, model: &str) -> Attributes {
    Attributes {
        id: EventId::from(Uuid::from_u128(0x0198_a0b0_c0d0_7000_8000_0000_0000_0001)),
        source: format!("/vigie/{}", event.kind().publishers()[0]),
        kind: event.kind(),
        time: at("2018-07-20T02:00:03Z"),
        model: ModelName::new(model).expect("a model name"),
        correlation_id: EventId::from(Uuid::from_u128(0x0198_a0b0_c0d0_7000_8000_0000_0000_0007)),
        causation_id: None,
        trace: TraceContext {
            parent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
            state: None,
        },
    }
}

pub fn drift_detected(severity: DriftSeverity) -> DriftDetected {
    DriftDetected {
        check_id: CheckId::from(Uuid::from_u128(11)),
        as_of: at("2018-07-20T02:00:00Z"),
        champion: version("fraud-cards-20180501T020000Z"),
        window: window("2018-07-19T02:00:00Z", "2018-07-20T02:00:00Z"),
        rows: 9_588,
        kinds: match severity {
            DriftSeverity::AlertOnly => vec![DriftKind::Target],
            DriftSeverity::Medium | DriftSeverity::High => vec![DriftKind::Data],
            DriftSeverity::Immediate => vec![DriftKind::Data, DriftKind::Target, DriftKind::Concept],
        },
        severity,
        since: at("2018-07-19T23:00:00Z"),
        consecutive: 4,
        data_drift: Some(finite(0.6123)),
        features: vec![
            FeatureDrift {
                moved: vec![
                    shift("0", 0.801, 0.6234),
                    shift("above 0.25", 0.0301, 0.15),
                    shift("missing", 0.0, 0.0042),
                ],
                began: Some(at("2018-07-17T21:00:00Z")),
                segments: vec![
                    segment("country", "FR", 1.5201),
                    segment("country", "missing", 0.711),
                ],
                ..feature("terminal_id_risk_7day_window", 0.6123, 0.3, 0.011)
            },
            feature("customer_id_avg_amount_1day_window", 0.41, 0.3, 0.012),
            feature("tx_amount", 0.3049, 0.3, 0.01),
        ],
        target: Some(TargetDrift {
            reference_rate: share(0.0041),
            current_rate: share(0.0085),
            relative_change: Some(finite(1.0731)),
            p_value: share(0.000_04),
        }),
        concept: Some(ConceptDrift {
            window: window("2018-07-05T02:00:00Z", "2018-07-19T02:00:00Z"),
            validated_recall: share(0.86),
            realised_recall: share(0.71),
            drop: finite(0.15),
            drop_low: finite(0.08),
            drop_high: finite(0.22),
            frauds: 1_284,
            validated_precision: Some(share(0.79)),
            realised_precision: Some(share(0.613)),
            flagged: Some(1_487),
            estimated_recall: Some(share(0.8481)),
            estimated_recall_interval: Some(interval(0.8177, 0.8742)),
            estimated_precision: Some(share(0.77)),
            estimated_precision_interval: Some(interval(0.7312, 0.8049)),
        }),
        estimated: Some(EstimatedPerformance {
            rows: 9_520,
            frauds: finite(81.4),
            recall: Some(share(0.8412)),
            precision: Some(share(0.7719)),
            recall_interval: Some(interval(0.7904, 0.8817)),
            precision_interval: Some(interval(0.6918, 0.8402)),
        }),
        prediction: Some(PredictionDrift {
            psi: finite(0.0712),
            noise: finite(0.0094),
            validated_flagged_share: share(0.0091),
            flagged_share: share(0.0213),
            p_value: share(0.000_02),
            beyond_chance: true,
        }),
    }
}

fn interval(low: f64, high: f64) -> Interval {
    Interval {
        low: share(low),
        high: share(high),
        level: share(0.95),
    }
}

pub fn feature(name: &str, psi: f64, threshold: f64, noise: f64) -> FeatureDrift {
    FeatureDrift {
        feature: name.to_owned(),
        psi: finite(psi),
        threshold: finite(threshold),
        noise: finite(noise),
        moved: Vec::new(),
        began: None,
        segments: Vec::new(),
    }
}

fn segment(column: &str, level: &str, psi: f64) -> SegmentDrift {
    SegmentDrift {
        column: column.to_owned(),
        level: level.to_owned(),
        reference_rows: 40_211,
        rows: 2_105,
        psi: finite(psi),
        noise: finite(0.02),
    }
}

pub fn shift(level: &str, reference: f64, current: f64) -> LevelShift {
    LevelShift {
        level: level.to_owned(),
        reference: share(reference),
        current: share(current),
    }
}

pub fn drift_checked(verdict: Verdict, previous: Option<Verdict>) -> DriftChecked {
    DriftChecked {
        check_id: CheckId::from(Uuid::from_u128(12)),
        as_of: at("2018-07-20T02:00:00Z"),
        champion: Some(version("fraud-cards-20180501T020000Z")),
        reference_window: Some(window("2018-04-01T00:00:00Z", "2018-05-01T00:00:00Z")),
        window: window("2018-07-19T02:00:00Z", "2018-07-20T02:00:00Z"),
        rows: 50,
        labelled_rows: 0,
        verdict,
        previous_verdict: previous,
        unknown_since: (verdict == Verdict::Unknown).then(|| at("2018-07-20T02:00:00Z")),
        drifted: vec![],
        not_measured: vec![
            NotMeasured {
                kind: DriftKind::Data,
                reason: "too_few_rows".to_owned(),
                detail: "50 rows in the window, at least 1000 are needed".to_owned(),
                blocks_verdict: true,
            },
            NotMeasured {
                kind: DriftKind::Concept,
                reason: "labels_not_ripe".to_owned(),
                detail: "no label is known yet".to_owned(),
                blocks_verdict: false,
            },
        ],
        metrics: vec![],
        estimated: None,
        prediction: None,
    }
}

pub fn retrain_requested(priority: Priority) -> RetrainRequested {
    RetrainRequested {
        decision_id: DecisionId::from(Uuid::from_u128(13)),
        as_of: at("2018-07-20T02:00:00Z"),
        trigger: TriggerKind::Drift,
        priority,
        reason: "concept drift: recall fell by 0.150, more than 0.05".to_owned(),
        champion: Some(version("fraud-cards-20180501T020000Z")),
        new_rows: Some(776_102),
        rules: vec![
            RuleOutcome {
                rule: "cooldown".to_owned(),
                result: RuleResult::Bypassed,
                inputs: [("hours_since_last_training".to_owned(), 31.into())].into(),
                detail: "31 h since the last training, 48 h are asked for; immediate priority is exempt"
                    .to_owned(),
            },
            RuleOutcome {
                rule: "new_rows".to_owned(),
                result: RuleResult::Passed,
                inputs: [("rows".to_owned(), 776_102.into())].into(),
                detail: "776102 rows, at least 10000 are needed".to_owned(),
            },
        ],
    }
}

pub fn training_failed() -> TrainingFailed {
    TrainingFailed {
        job_id: JobId::from(Uuid::from_u128(14)),
        decision_id: DecisionId::from(Uuid::from_u128(13)),
        as_of: at("2018-07-20T02:00:00Z"),
        backend: "databricks".to_owned(),
        attempts: 2,
        failure: TrainingFailure::RunFailed,
        detail: "the run ended with INTERNAL_ERROR: cluster terminated, spot instances lost".to_owned(),
        run_id: Some("455644833".to_owned()),
        run_url: Some("https://adb-1.azuredatabricks.net/#job/7/run/455644833".to_owned()),
    }
}

pub fn model_validated(verdict: ValidationVerdict) -> ModelValidated {
    let passed = verdict == ValidationVerdict::Passed;
    ModelValidated {
        version: version("fraud-cards-20180720T020000Z"),
        decision_id: DecisionId::from(Uuid::from_u128(13)),
        as_of: at("2018-07-20T02:00:00Z"),
        verdict,
        failures: if passed {
            vec![]
        } else {
            vec!["precision 0.712 is below the minimum 0.75".to_owned()]
        },
        artifact: artifact(),
        training_window: window("2018-06-01T00:00:00Z", "2018-07-12T00:00:00Z"),
        holdout_window: window("2018-07-12T00:00:00Z", "2018-07-19T00:00:00Z"),
        rows: 67_121,
        frauds: 561,
        operating_threshold: share(0.412),
        confusion: Confusion {
            true_positives: 471,
            false_positives: 190,
            false_negatives: 90,
            true_negatives: 66_370,
        },
        metrics: vec![
            estimate("recall", 0.84, 0.807, 0.868),
            estimate("precision", 0.712, 0.677, 0.746),
        ],
        score_counts: None,
        gates: vec![
            ValidationGate {
                metric: "recall".to_owned(),
                min: share(0.8),
                passed: true,
            },
            ValidationGate {
                metric: "precision".to_owned(),
                min: share(0.75),
                passed,
            },
        ],
    }
}

fn estimate(name: &str, value: f64, low: f64, high: f64) -> MetricEstimate {
    MetricEstimate {
        name: name.to_owned(),
        value: Some(share(value)),
        interval: Some(Interval {
            low: share(low),
            high: share(high),
            level: share(0.95),
        }),
    }
}

fn artifact() -> Artifact {
    Artifact {
        uri: "file:///var/lib/vigie/artifacts/fraud-cards-20180720T020000Z.json".to_owned(),
        sha256: Sha256Digest::new("5f".repeat(32)).expect("a digest"),
        bytes: 48_210,
        format: "vigie.model.v1".to_owned(),
    }
}

pub fn model_promoted(kind: PromotionKind) -> ModelPromoted {
    ModelPromoted {
        version: version("fraud-cards-20180720T020000Z"),
        previous: Some(version("fraud-cards-20180501T020000Z")),
        decision_id: DecisionId::from(Uuid::from_u128(13)),
        as_of: at("2018-07-20T02:00:00Z"),
        effective_from: at("2018-07-20T02:04:00Z"),
        kind,
        fence: 3,
        artifact: artifact(),
        training_window: window("2018-06-01T00:00:00Z", "2018-07-12T00:00:00Z"),
        operating_threshold: share(0.412),
        validated_recall: share(0.84),
        validated_frauds: 561,
        validated_precision: share(0.781),
        score_counts: None,
        registry: "mlflow".to_owned(),
        registry_version: Some("7".to_owned()),
    }
}

pub fn promotion_refused(reason: PromotionRefusal) -> PromotionRefused {
    PromotionRefused {
        version: version("fraud-cards-20180720T020000Z"),
        champion: Some(version("fraud-cards-20180501T020000Z")),
        decision_id: DecisionId::from(Uuid::from_u128(13)),
        as_of: at("2018-07-20T02:00:00Z"),
        reason,
        detail: "the artefact has sha256 `0a4d`, expected was `dd56`".to_owned(),
    }
}

pub fn retrain_declined(reason: DeclineReason) -> RetrainDeclined {
    RetrainDeclined {
        decision_id: DecisionId::from(Uuid::from_u128(15)),
        as_of: at("2018-07-20T16:00:00Z"),
        trigger: TriggerKind::Drift,
        reason,
        detail: "2 immediate trainings within 1 d did not cure the model; a person should look".to_owned(),
        rules: Vec::new(),
        counterfactuals: Vec::new(),
    }
}
