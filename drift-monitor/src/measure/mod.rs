//! Counts become metrics; what cannot be measured says why, and whether that blocks the verdict.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use drift_stats::null::per_test;
use drift_stats::null_law::Comparison;
use drift_stats::outcome::Outcome;
use drift_stats::profile::Profile;
use drift_stats::proportion::{Difference, difference, relative_change, relative_noise, two_rates};
use drift_stats::{Histogram, Unusable};
use schemas::events::{
    ConceptDrift, DriftKind, EstimatedPerformance, NotMeasured, PredictionDrift, TargetDrift,
};
use schemas::{Finite, Share, Window};

use crate::breakage;
use crate::estimate::Estimator;
use crate::judge::{Limits, Measured, MetricName};
use crate::reference::Reference;
use crate::store::Champion;

/// What a check found.
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
    /// What scores let expect of the newest rows, where a validation says what they stand for.
    pub estimated: Option<EstimatedPerformance>,
    /// How their scores lie beside those of the validation.
    pub prediction: Option<PredictionDrift>,
}

/// Every kind of drift, in the order of reports.
pub const KINDS: [DriftKind; 3] = [DriftKind::Data, DriftKind::Target, DriftKind::Concept];

impl Findings {
    /// Nothing could be looked at.
    pub fn blind(reason: &str, detail: &str) -> Self {
        let mut findings = Self::default();
        for kind in KINDS {
            findings.miss(kind, reason, detail.to_owned(), true);
        }
        findings
    }

    /// Something could not be measured.
    pub fn miss(&mut self, kind: DriftKind, reason: &str, detail: String, blocks_verdict: bool) {
        self.not_measured.push(NotMeasured {
            kind,
            reason: reason.to_owned(),
            detail,
            blocks_verdict,
        });
    }

    /// `inflation` is how many times more than chance parts of the reference differ by among themselves, 1 or more.
    fn find(&mut self, name: MetricName, feature: Option<&str>, value: f64, noise: f64, inflation: f64) {
        let unrest = Finite::new(noise * inflation);
        match (Finite::new(value), Finite::new(noise), unrest) {
            (Ok(value), Ok(noise), Ok(unrest)) => {
                self.measured.push(Measured {
                    name,
                    feature: feature.map(str::to_owned),
                    weight: 1.0,
                    value,
                    noise,
                    unrest,
                });
            }
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
                self.miss(
                    name.kind(),
                    "not_a_number",
                    format!("{}: {error}", name.as_str()),
                    true,
                );
            }
        }
    }
}

/// PSI of every monitored feature.
pub fn data(limits: &Limits, reference: &Reference, window: &Profile, findings: &mut Findings) {
    if window.rows() < limits.rows_min {
        let detail = format!(
            "{} rows in the window, {} are needed",
            window.rows(),
            limits.rows_min
        );
        let reason = if window.rows() == 0 {
            "no_rows"
        } else {
            "too_few_rows"
        };
        findings.miss(DriftKind::Data, reason, detail, true);
        return;
    }
    let alpha = per_test(limits.evidence.data, reference.features.len());
    for (at, feature) in reference.features.iter().enumerate() {
        let between = reference.between.get(at).copied().unwrap_or(0.0);
        let compared = histograms(reference, window, at)
            .and_then(|(before, now)| Comparison::of(&before, &now, between));
        match compared {
            Ok(found) => {
                let noise = found.chance(alpha);
                findings.find(MetricName::Psi, Some(feature), found.psi, noise, found.inflation);
            }
            Err(why) => findings.miss(
                DriftKind::Data,
                why.word(),
                format!("feature `{feature}`: {why}"),
                true,
            ),
        }
    }
}

/// What broke rather than drifted is no reason to retrain: it keeps the check from a verdict, which alerts.
pub fn broken(limits: &Limits, reference: &Reference, window: &Profile, findings: &mut Findings) {
    for broken in breakage::find(&reference.features, &reference.profile, window, limits.rows_min) {
        let is_it = |measured: &Measured| measured.feature.as_deref() == Some(broken.feature.as_str());
        findings.measured.retain(|measured| !is_it(measured));
        let detail = format!("feature `{}`: {}", broken.feature, broken.detail);
        findings.miss(DriftKind::Data, broken.kind, detail, true);
    }
}

/// How much there is to look at.
#[derive(Debug, Clone, Copy)]
pub struct Volume {
    /// Rows of the reference, count.
    pub reference: u64,
    /// How long it is.
    pub reference_span: TimeDelta,
    /// Rows of the window, count.
    pub window: u64,
    /// How long it is.
    pub window_span: TimeDelta,
}

/// A stream that has nearly run dry is an outage, whatever its last rows look like. Fewer rows than a check needs are said elsewhere.
pub fn volume(limits: &Limits, least: f64, volume: Volume, findings: &mut Findings) {
    let per_hour = |rows: u64, span: TimeDelta| {
        let hours = span.num_seconds() as f64 / 3_600.0;
        if hours > 0.0 { rows as f64 / hours } else { 0.0 }
    };
    let before = per_hour(volume.reference, volume.reference_span);
    let now = per_hour(volume.window, volume.window_span);
    if volume.window >= limits.rows_min && now < before * least {
        let detail = format!(
            "{now:.1} rows an hour in the window, {before:.1} in the reference; less than {:.0} % of it (`drift.volume_min`) is taken \
             for an outage",
            least * 100.0
        );
        findings.miss(DriftKind::Data, "volume_collapsed", detail, true);
    }
}

/// How much each feature counts beside others.
pub fn weigh(weights: &BTreeMap<String, f64>, findings: &mut Findings) {
    for measured in &mut findings.measured {
        let weight = measured.feature.as_ref().and_then(|feature| weights.get(feature));
        measured.weight = weight.copied().unwrap_or(1.0);
    }
}

fn histograms(
    reference: &Reference,
    window: &Profile,
    at: usize,
) -> Result<(Histogram, Histogram), Unusable> {
    let bins = reference.bins.get(at).ok_or(Unusable::BinsDiffer)?;
    Ok((
        reference.profile.histogram(at, bins)?,
        window.histogram(at, bins)?,
    ))
}

/// Change of the fraud rate, on labels that are known.
pub fn target(limits: &Limits, reference: &Reference, window: &Outcome, findings: &mut Findings) {
    let (before, now) = (reference.fraud_rate(), window.fraud_rate());
    if now.of < limits.rows_min {
        let reason = if window.rows() < limits.rows_min {
            "too_few_rows"
        } else {
            "labels_overdue"
        };
        let detail = format!(
            "{} known labels among {} rows old enough to have one, {} are needed",
            now.of,
            window.rows(),
            limits.rows_min
        );
        findings.miss(DriftKind::Target, reason, detail, true);
        return;
    }
    let measured = relative_change(before, now).and_then(|change| Ok((change, two_rates(before, now)?)));
    let (change, test) = match measured {
        Ok(measured) => measured,
        Err(why) => {
            let detail = format!(
                "{why} ({} frauds in {} labelled rows of the reference)",
                before.hits, before.of
            );
            findings.miss(DriftKind::Target, why.word(), detail, true);
            return;
        }
    };
    let Some(noise) = relative_noise(before, now.of, limits.evidence.target) else {
        findings.miss(
            DriftKind::Target,
            "no_noise_limit",
            "the reference has no frauds".to_owned(),
            true,
        );
        return;
    };
    let noise = if change < 0.0 { noise.fall } else { noise.rise };
    findings.find(MetricName::FraudRateChange, None, change, noise, 1.0);
    if let (Some(reference_rate), Some(current_rate), Ok(p_value)) = (
        Share::of(before.hits, before.of),
        Share::of(now.hits, now.of),
        Share::new(test.p_value_exact),
    ) {
        let relative_change = Finite::new(change).ok();
        findings.target = Some(TargetDrift {
            reference_rate,
            current_rate,
            relative_change,
            p_value,
        });
    }
}

/// What concept drift is measured on.
#[derive(Debug)]
pub struct Realised<'a> {
    /// The instant of the check.
    pub as_of: DateTime<Utc>,
    /// How long labels take.
    pub label_delay: TimeDelta,
    /// Whether the model has a column with scores.
    pub has_scores: bool,
    /// The newest rows since the promotion, whether their label is known or not.
    pub latest: &'a Outcome,
    /// Rows that the champion scored and whose labels can be expected; none right after a promotion.
    pub rows: Option<(Window, &'a Outcome)>,
}

impl Realised<'_> {
    /// Labels and scores that are missing this long after a promotion are missing for good.
    fn overdue(&self, champion: &Champion) -> bool {
        self.as_of > champion.promoted_as_of + self.label_delay * 2 + TimeDelta::hours(24)
    }
}

/// Drop of realised recall and precision against what validation found.
pub fn concept(limits: &Limits, champion: &Champion, realised: &Realised<'_>, findings: &mut Findings) {
    let version = &champion.version;
    let overdue = realised.overdue(champion);
    let estimator = Estimator::of(champion);
    if let Some(estimator) = &estimator {
        let (rows, rows_min) = (realised.latest, limits.rows_min);
        findings.estimated = estimator.of_scored(rows, rows_min);
        findings.prediction = estimator.prediction(rows, rows_min, limits.evidence.data);
    }
    if !realised.has_scores {
        let detail = "the model has no `score` column, so nobody knows what it predicted".to_owned();
        findings.miss(DriftKind::Concept, "no_score_column", detail, false);
        return;
    }
    // Labels take days, scores do not: a feed that stopped must not hide behind what came before.
    let latest = realised.latest.rows();
    if latest >= limits.rows_min && realised.latest.scored() == 0 {
        let detail = format!("none of the newest {latest} rows has a score of the serving model");
        findings.miss(DriftKind::Concept, "no_scores", detail, true);
        return;
    }
    let Some((span, outcome)) = realised.rows.filter(|(_, outcome)| outcome.rows() > 0) else {
        let detail = format!("no row since the promotion of {version} is old enough to be labelled");
        findings.miss(DriftKind::Concept, "labels_not_ripe", detail, false);
        return;
    };
    let rows = outcome.rows();
    if outcome.labelled() == 0 {
        let detail = format!("none of {rows} rows in {span} has a known label");
        let reason = if overdue {
            "labels_overdue"
        } else {
            "labels_not_ripe"
        };
        findings.miss(DriftKind::Concept, reason, detail, overdue);
        return;
    }
    if outcome.scored() == 0 {
        let detail = format!("none of {rows} rows in {span} has a score of the serving model");
        findings.miss(
            DriftKind::Concept,
            "no_scores",
            detail,
            overdue && rows >= limits.rows_min,
        );
        return;
    }
    let (recall, precision) = (outcome.confusion().recall(), outcome.confusion().precision());
    let (validated_recall, validated_precision) = champion.validated();
    for (name, what, before, now) in [
        (MetricName::RecallDrop, "frauds", validated_recall, recall),
        (
            MetricName::PrecisionDrop,
            "flagged rows",
            validated_precision,
            precision,
        ),
    ] {
        if now.of < limits.frauds_min {
            let detail = format!(
                "{}: {} {what} with a known label in {span}, {} are needed",
                name.as_str(),
                now.of,
                limits.frauds_min
            );
            findings.miss(DriftKind::Concept, "too_few_ripened_labels", detail, false);
            continue;
        }
        let Some(drop) = difference(before, now, limits.evidence.confidence()) else {
            let detail = format!("{}: validation of {version} saw no {what}", name.as_str());
            findings.miss(DriftKind::Concept, "not_validated", detail, false);
            continue;
        };
        // A drop is outside the noise when its whole interval is above zero: when it exceeds the lower half-width.
        findings.find(name, None, drop.value, drop.value - drop.interval.low, 1.0);
    }
    findings.concept = difference(validated_recall, recall, limits.evidence.confidence())
        .and_then(|drop| concept_drift(champion, span, outcome, &drop));
    if let (Some(concept), Some(estimator)) = (&mut findings.concept, estimator) {
        let expected = estimator.of_labelled(outcome);
        concept.estimated_recall = expected.recall;
        concept.estimated_recall_interval = expected.recall_interval;
        concept.estimated_precision = expected.precision;
        concept.estimated_precision_interval = expected.precision_interval;
    }
}

fn concept_drift(
    champion: &Champion,
    window: Window,
    outcome: &Outcome,
    drop: &Difference,
) -> Option<ConceptDrift> {
    let (recall, precision) = (outcome.confusion().recall(), outcome.confusion().precision());
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
        estimated_recall: None,
        estimated_recall_interval: None,
        estimated_precision: None,
        estimated_precision_interval: None,
    })
}
