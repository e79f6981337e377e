//! Counts become metrics; a metric that cannot be measured says why, and whether that blocks the verdict.

use chrono::{DateTime, TimeDelta, Utc};
use drift_stats::null::{Sizes, per_test, psi_critical};
use drift_stats::profile::{Outcome, Profile};
use drift_stats::proportion::{Rate, difference, relative_change, relative_rise_noise, two_rates};
use drift_stats::{DETECTORS, Unusable};
use schemas::events::{ConceptDrift, DriftKind, NotMeasured, TargetDrift};
use schemas::{Finite, Share, Window};

use crate::judge::{Limits, Measured};
use crate::reference::Reference;
use crate::store::Champion;

/// What one kind of drift gave.
#[derive(Debug, Default)]
pub struct Findings {
    /// Metrics.
    pub measured: Vec<Measured>,
    /// What could not be measured.
    pub not_measured: Vec<NotMeasured>,
    /// How the fraud rate moved, when it could be measured.
    pub target: Option<TargetDrift>,
    /// How far recall dropped, when it could be measured.
    pub concept: Option<ConceptDrift>,
}

impl Findings {
    /// Says that a kind could not be measured.
    pub fn miss(&mut self, kind: DriftKind, reason: &str, detail: String, blocks_verdict: bool) {
        self.not_measured.push(NotMeasured { kind, reason: reason.to_owned(), detail, blocks_verdict });
    }
}

/// PSI of every monitored feature.
pub fn data(limits: &Limits, reference: &Reference, window: &Profile, findings: &mut Findings) {
    if window.rows() < limits.rows_min {
        let detail = format!("{} rows in the window, {} are needed", window.rows(), limits.rows_min);
        let reason = if window.rows() == 0 { "no_rows" } else { "too_few_rows" };
        findings.miss(DriftKind::Data, reason, detail, true);
        return;
    }
    let alpha = per_test(limits.false_alarm_rate, reference.features.len());
    for (at, feature) in reference.features.iter().enumerate() {
        for detector in DETECTORS {
            let scored = feature_histograms(reference, window, at)
                .and_then(|(before, now)| Ok((detector.score(&before, &now)?, before.values(), now.values())));
            match scored {
                Ok((score, before, now)) => findings.measured.push(Measured {
                    kind: DriftKind::Data,
                    name: detector.name(),
                    feature: Some(feature.clone()),
                    value: score.value,
                    noise: psi_critical(score.bins, Sizes { reference: before, current: now }, alpha),
                }),
                Err(why) => {
                    findings.miss(DriftKind::Data, why.word(), format!("feature `{feature}`: {}", why.word()), true);
                }
            }
        }
    }
}

fn feature_histograms(
    reference: &Reference,
    window: &Profile,
    at: usize,
) -> Result<(drift_stats::Histogram, drift_stats::Histogram), Unusable> {
    let bins = &reference.bins[at];
    Ok((reference.profile.histogram(at, bins)?, window.histogram(at, bins)?))
}

/// Change of the fraud rate, on labels that are known.
pub fn target(limits: &Limits, reference: &Reference, window: &Outcome, findings: &mut Findings) {
    let current = window.fraud_rate();
    if current.of < limits.rows_min {
        let detail = format!("{} labelled rows in the window, {} are needed", current.of, limits.rows_min);
        findings.miss(DriftKind::Target, "too_few_labels", detail, true);
        return;
    }
    let before = reference.fraud_rate();
    let (change, test) = match (relative_change(before, current), two_rates(before, current)) {
        (Ok(change), Ok(test)) => (change, test),
        (Err(why), _) | (_, Err(why)) => {
            let detail = format!("the reference has {} frauds in {} labelled rows", before.hits, before.of);
            findings.miss(DriftKind::Target, why.word(), detail, true);
            return;
        }
    };
    // The noise is the change whose p-value is just the allowed false-alarm rate; what is not significant is noise itself.
    let rise = relative_rise_noise(before, current.of, limits.false_alarm_rate);
    let noise = if test.p_value_exact < limits.false_alarm_rate {
        rise.unwrap_or(0.0).min(change.abs() * (1.0 - 1e-9))
    } else {
        rise.unwrap_or(0.0).max(change.abs())
    };
    findings.measured.push(Measured {
        kind: DriftKind::Target,
        name: "fraud_rate_change",
        feature: None,
        value: change,
        noise,
    });
    if let (Some(reference_rate), Some(current_rate), Ok(p_value)) =
        (Share::of(before.hits, before.of), Share::of(current.hits, current.of), Share::new(test.p_value_exact))
    {
        let relative_change = Finite::new(change).ok();
        findings.target = Some(TargetDrift { reference_rate, current_rate, relative_change, p_value });
    }
}

/// When the labels of a champion's own rows can be expected.
#[derive(Debug, Clone, Copy)]
pub struct Ripeness {
    /// The instant of the check.
    pub as_of: DateTime<Utc>,
    /// How long labels take.
    pub label_delay: TimeDelta,
    /// Length of the concept window.
    pub window: TimeDelta,
}

/// Drop of realised recall and precision against what validation found.
pub fn concept(
    limits: &Limits,
    champion: &Champion,
    window: Option<(Window, &Outcome)>,
    ripeness: Ripeness,
    findings: &mut Findings,
) {
    let Some((span, outcome)) = window.filter(|(_, outcome)| outcome.labelled() > 0) else {
        // Right after a promotion nothing has ripened; that is a wait, until it is overdue.
        let expected = champion.promoted_as_of + ripeness.label_delay + TimeDelta::hours(24).min(ripeness.window);
        let overdue = ripeness.as_of > expected + ripeness.label_delay;
        let detail = format!("no label of a row scored by {} is known yet", champion.version);
        let reason = if overdue { "labels_overdue" } else { "labels_not_ripe" };
        findings.miss(DriftKind::Concept, reason, detail, overdue);
        return;
    };
    if outcome.scored() == 0 {
        let detail = "no row of the window has a score of the serving model".to_owned();
        findings.miss(DriftKind::Concept, "no_scores", detail, false);
        return;
    }
    let confusion = outcome.confusion();
    let recall = confusion.recall();
    let precision = confusion.precision();
    let (validated_recall, validated_precision) = champion.validated();
    let realised = [
        ("recall_drop", "frauds", validated_recall, recall),
        ("precision_drop", "flagged rows", validated_precision, precision),
    ];
    for (name, what, before, now) in realised {
        if now.of < limits.frauds_min {
            let detail = format!("{name}: {} {what} with known label in {span}, {} are needed", now.of, limits.frauds_min);
            findings.miss(DriftKind::Concept, "too_few_ripened_labels", detail, false);
            continue;
        }
        let Some(drop) = difference(before, now, limits.confidence) else { continue };
        findings.measured.push(Measured {
            kind: DriftKind::Concept,
            name,
            feature: None,
            value: drop.value,
            // The drop lies outside its interval around zero when it is larger than its lower half-width.
            noise: drop.value - drop.interval.low,
        });
        if name == "recall_drop" {
            findings.concept = concept_drift(champion, span, recall, precision, &drop);
        }
    }
}

fn concept_drift(
    champion: &Champion,
    window: Window,
    recall: Rate,
    precision: Rate,
    drop: &drift_stats::proportion::Difference,
) -> Option<ConceptDrift> {
    Some(ConceptDrift {
        window,
        validated_recall: Share::new(champion.validated_recall).ok()?,
        realised_recall: Share::of(recall.hits, recall.of)?,
        drop: Finite::new(drop.value).ok()?,
        drop_low: Finite::new(drop.interval.low).ok()?,
        drop_high: Finite::new(drop.interval.high).ok()?,
        frauds: recall.of,
        validated_precision: Share::new(champion.validated_precision).ok(),
        realised_precision: Share::of(precision.hits, precision.of),
        flagged: Some(precision.of),
    })
}
