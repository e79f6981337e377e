//! What people are told of drift, and of checks that could not look.

use schemas::events::{
    ConceptDrift, DriftChecked, DriftDetected, DriftKind, DriftSeverity, EstimatedPerformance, FeatureDrift,
    Interval, LevelShift, PredictionDrift, SegmentDrift, TargetDrift,
};
use schemas::{ModelName, Share};

use super::{Draft, capital, instant, kind_word, kinds, minute, name, run_check, say, window};
use crate::alert::{Fact, Movement, SENTENCE_CHARS_MAX, Severity};
use crate::text::{count, line, percent, signed_percent};

pub fn drift_detected(body: &DriftDetected, model: &ModelName) -> Draft {
    let shown = name(model.as_str());
    let (severity, next) = match body.severity {
        DriftSeverity::Immediate => (
            Severity::Critical,
            "The retrain-decider decides at once; concept drift skips the cooldown and the minimum of new rows.",
        ),
        DriftSeverity::High => (Severity::High, HELD_BACK_BY_RULES),
        DriftSeverity::Medium => (Severity::Medium, HELD_BACK_BY_RULES),
        DriftSeverity::AlertOnly => (
            Severity::Medium,
            if body.kinds.contains(&DriftKind::Data) {
                "Nothing is retrained for so little. Features moved farther than chance explains, and less than their threshold."
            } else {
                "Nothing is retrained when only the fraud rate moves. Check whether fraud really changed, or labels come late."
            },
        ),
    };
    let kinds = kinds(&body.kinds);
    let run = if body.consecutive > 1 {
        format!(
            ", in {} checks in a row since {}",
            body.consecutive,
            minute(body.since)
        )
    } else {
        String::new()
    };
    let mut facts = Vec::new();
    if let Some(concept) = &body.concept {
        facts.extend(concept_facts(concept, body.target.is_some()));
    }
    if let Some(target) = &body.target {
        facts.extend(target_facts(target));
    }
    if let Some(data_drift) = body.data_drift {
        facts.push(Fact::new("Data drift (PSI)", format!("{:.2}", data_drift.get())));
    }
    // What was realised stands above an estimate that assumes that nothing of the kind happened.
    if let Some(estimated) = body.estimated.as_ref().filter(|_| body.concept.is_none()) {
        facts.extend(estimate_fact(estimated));
    }
    facts.push(Fact::new("Window", window(&body.window)));
    facts.push(Fact::new("Rows in the window", count(body.rows)));
    facts.push(Fact::new("Champion", name(body.champion.as_str())));
    facts.extend(body.prediction.as_ref().and_then(prediction_fact));
    let moved = body
        .features
        .iter()
        .map(|drift| Movement {
            feature: name(&drift.feature),
            psi: drift.psi.get(),
            threshold: drift.threshold.get(),
            noise: drift.noise.get(),
            detail: what_moved(drift),
        })
        .collect();
    Draft {
        severity,
        title: format!("{kinds} drift in {shown}"),
        what: format!("{} drift was found in the model {shown}{run}.", capital(&kinds)),
        as_of: body.as_of,
        facts,
        moved,
        next: vec![say(next), run_check(model, body.as_of)],
        link: None,
        occasion: format!("drift/{model}/{}/{}", instant(body.since), body.severity),
    }
}

/// `chip: 70.1 % → 20.0 %, phone: 0 % → 50.1 %; farthest in country FR (PSI 1.52); since 2 Mar 2026 04:00 UTC`.
fn what_moved(drift: &FeatureDrift) -> String {
    let shift = |shift: &LevelShift| {
        let (before, now) = (percent(shift.reference.get()), percent(shift.current.get()));
        format!("{}: {before} → {now}", name(&shift.level))
    };
    let shifts: Vec<String> = drift.moved.iter().map(shift).collect();
    let since = drift.began.map(|began| format!("since {}", minute(began)));
    let segments: Vec<String> = drift.segments.iter().map(segment).collect();
    let farthest = (!segments.is_empty()).then(|| format!("farthest in {}", segments.join(", ")));
    let parts: Vec<String> = [Some(shifts.join(", ")), farthest, since]
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect();
    line(&parts.join("; "), SENTENCE_CHARS_MAX)
}

fn segment(segment: &SegmentDrift) -> String {
    let (column, level) = (name(&segment.column), name(&segment.level));
    format!("{column} {level} (PSI {:.2})", segment.psi.get())
}

const HELD_BACK_BY_RULES: &str = "The retrain-decider decides next; it waits if the last training is too young or too few rows arrived since.";

fn concept_facts(concept: &ConceptDrift, fraud_rate_moved: bool) -> Vec<Fact> {
    let by_scores = |estimated: Option<Share>, interval: &Option<Interval>| {
        estimated.map_or_else(String::new, |share| {
            format!(
                "; {}{} by the scores",
                percent(share.get()),
                around(interval.as_ref())
            )
        })
    };
    let mut facts = vec![
        Fact::new(
            "Recall",
            format!(
                "{} on {} known frauds; {} at validation{}",
                percent(concept.realised_recall.get()),
                count(concept.frauds),
                percent(concept.validated_recall.get()),
                by_scores(concept.estimated_recall, &concept.estimated_recall_interval),
            ),
        ),
        Fact::new(
            "Drop in recall",
            format!(
                "{:.3} (between {:.3} and {:.3}){}",
                concept.drop.get(),
                concept.drop_low.get(),
                concept.drop_high.get(),
                meaning(concept, fraud_rate_moved).unwrap_or_default(),
            ),
        ),
    ];
    if let (Some(realised), Some(validated)) = (concept.realised_precision, concept.validated_precision) {
        let stands_on = concept
            .flagged
            .map(|rows| format!(" on {} flagged rows", count(rows)))
            .unwrap_or_default();
        let text = format!(
            "{}{stands_on}; {} at validation{}",
            percent(realised.get()),
            percent(validated.get()),
            by_scores(concept.estimated_precision, &concept.estimated_precision_interval),
        );
        facts.push(Fact::new("Precision", text));
    }
    facts
}

/// What the scores of the same rows say of a drop of recall. Nothing where recall may not have dropped, nor where the fraud rate moved:
/// an estimate by scores does not know that it did.
fn meaning(concept: &ConceptDrift, fraud_rate_moved: bool) -> Option<&'static str> {
    let estimated = concept.estimated_recall?.get();
    let least = concept.drop_low.get();
    if least <= 0.0 || fraud_rate_moved {
        return None;
    }
    let explains = concept.validated_recall.get() - estimated >= least;
    let contradicts = match &concept.estimated_recall_interval {
        Some(expected) => concept.realised_recall < expected.low,
        // Told by a monitor that did not say how sure it is.
        None => !explains,
    };
    Some(if contradicts {
        "; the scores do not explain it: a score may mean something else now"
    } else if explains {
        "; the scores explain it: transactions may have moved to where the model is weak"
    } else {
        "; the scores leave open why: they tell too little to contradict it"
    })
}

/// ` (95 %: 80.2 % to 87.3 %)`, or nothing.
fn around(interval: Option<&Interval>) -> String {
    interval.map_or_else(String::new, |interval| {
        let level = 100.0 * interval.level.get();
        let [low, high] = [interval.low, interval.high].map(|share| percent(share.get()));
        format!(" ({level:.0} %: {low} to {high})")
    })
}

/// `recall 84.1 % (95 %: 80.2 % to 87.3 %), precision 77.0 % of 9,520 rows, if a score means what it meant at validation`.
fn estimate_fact(estimated: &EstimatedPerformance) -> Option<Fact> {
    let rates = [
        ("recall", estimated.recall, &estimated.recall_interval),
        ("precision", estimated.precision, &estimated.precision_interval),
    ];
    let known: Vec<String> = rates
        .into_iter()
        .filter_map(|(what, rate, interval)| {
            Some(format!(
                "{what} {}{}",
                percent(rate?.get()),
                around(interval.as_ref())
            ))
        })
        .collect();
    let text = format!(
        "{} of {} rows, if a score means what it meant at validation",
        known.join(", "),
        count(estimated.rows)
    );
    (!known.is_empty()).then(|| Fact::new("Estimated by the scores", text))
}

/// `PSI 0.0712 beside those of the validation (chance: 0.0094); flagged rows 0.91 % → 2.13 %`; nothing where chance explains it.
fn prediction_fact(prediction: &PredictionDrift) -> Option<Fact> {
    let text = format!(
        "PSI {:.4} beside those of the validation (chance: {:.4}); flagged rows {} → {}",
        prediction.psi.get(),
        prediction.noise.get(),
        percent(prediction.validated_flagged_share.get()),
        percent(prediction.flagged_share.get()),
    );
    prediction.beyond_chance.then(|| Fact::new("Scores", text))
}

fn target_facts(target: &TargetDrift) -> [Fact; 1] {
    let change = target.relative_change.map_or_else(
        || "no fraud in the reference".to_owned(),
        |change| signed_percent(change.get()),
    );
    [Fact::new(
        "Fraud rate",
        format!(
            "{} against {} in the reference ({change})",
            percent(target.current_rate.get()),
            percent(target.reference_rate.get())
        ),
    )]
}

pub fn became_unknown(body: &DriftChecked, model: &ModelName) -> Draft {
    let shown = name(model.as_str());
    let mut facts: Vec<Fact> = body
        .not_measured
        .iter()
        .filter(|gap| gap.blocks_verdict)
        .map(|gap| {
            let what = format!("{} drift not measured", capital(kind_word(gap.kind)));
            Fact::new(&what, format!("{} ({})", gap.detail, gap.reason))
        })
        .collect();
    facts.push(Fact::new("Window", window(&body.window)));
    facts.push(Fact::new("Rows in the window", count(body.rows)));
    let (severity, what) = if body.champion.is_some() {
        (
            Severity::Medium,
            format!(
                "The drift check of the model {shown} could not look. Until it can, nothing is known about drift; this is not a sign that all is well."
            ),
        )
    } else {
        (
            Severity::Low,
            format!(
                "The model {shown} has no champion yet, so there is nothing to compare its transactions with."
            ),
        )
    };
    Draft {
        severity,
        title: format!("drift is unknown in {shown}"),
        what,
        as_of: body.as_of,
        facts,
        moved: Vec::new(),
        next: vec![
            say("You are told again when the reason changes, or after a check that could look."),
            run_check(model, body.as_of),
        ],
        link: None,
        occasion: format!(
            "unknown/{model}/{}",
            instant(body.unknown_since.unwrap_or(body.as_of))
        ),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use schemas::{Finite, Window};

    use super::*;

    fn concept(estimated: Option<f64>, drop_low: f64) -> ConceptDrift {
        let share = |value| Share::new(value).unwrap();
        let finite = |value| Finite::new(value).unwrap();
        let from = DateTime::UNIX_EPOCH;
        ConceptDrift {
            window: Window::new(from, from + chrono::TimeDelta::days(7)).unwrap(),
            validated_recall: share(0.86),
            realised_recall: share(0.71),
            drop: finite(0.15),
            drop_low: finite(drop_low),
            drop_high: finite(0.22),
            frauds: 500,
            validated_precision: None,
            realised_precision: None,
            flagged: None,
            estimated_recall: estimated.map(share),
            estimated_recall_interval: None,
            estimated_precision: None,
            estimated_precision_interval: None,
        }
    }

    #[test]
    fn scores_explain_a_drop_or_they_do_not_or_nobody_knows() {
        let cases = [
            ("no estimate", None, 0.08, false, None),
            ("scores as ever", Some(0.85), 0.08, false, Some("do not explain")),
            (
                "a little less sure",
                Some(0.79),
                0.08,
                false,
                Some("do not explain"),
            ),
            (
                "as much as the drop is at least",
                Some(0.77),
                0.08,
                false,
                Some("explain it"),
            ),
            ("all of it", Some(0.70), 0.08, false, Some("explain it")),
            (
                "precision fell, recall may not have",
                Some(0.85),
                -0.01,
                false,
                None,
            ),
            ("the fraud rate moved too", Some(0.70), 0.08, true, None),
        ];
        let judged = |case: &str, concept: &ConceptDrift, moved, wanted: Option<&str>| {
            let found = meaning(concept, moved);
            assert_eq!(found.is_some(), wanted.is_some(), "{case}: {found:?}");
            if let (Some(found), Some(wanted)) = (found, wanted) {
                assert!(found.contains(wanted), "{case}: {found}");
            }
        };
        for (case, estimated, low, moved, wanted) in cases {
            judged(case, &concept(estimated, low), moved, wanted);
        }
        // How sure the estimate is counts. Validated are 0.86, realised 0.71.
        for (case, estimated, expected, wanted) in [
            ("realised below it", 0.77, (0.72, 0.82), "do not explain"),
            ("realised within it", 0.77, (0.71, 0.82), "explain it"),
            ("realised above it", 0.66, (0.60, 0.70), "explain it"),
            ("scores as ever, on few rows", 0.86, (0.68, 0.94), "leave open"),
        ] {
            let share = |value| Share::new(value).unwrap();
            let concept = ConceptDrift {
                estimated_recall_interval: Some(Interval {
                    low: share(expected.0),
                    high: share(expected.1),
                    level: share(0.95),
                }),
                ..concept(Some(estimated), 0.08)
            };
            judged(case, &concept, false, Some(wanted));
        }
    }
}
