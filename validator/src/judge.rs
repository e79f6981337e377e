//! The verdict: pure. Every reason to fail is given, not only the first.

use chrono::{DateTime, Utc};
use schemas::events::{ReportedMetric, ValidationGate, ValidationVerdict};
use schemas::{ModelName, Window};

/// What a candidate must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gates {
    /// Smallest recall that passes.
    pub recall_min: f64,
    /// Smallest precision that passes.
    pub precision_min: f64,
    /// Which number has to reach them.
    pub on: GateOn,
    /// Labelled rows needed for a judgement.
    pub rows_min: u64,
    /// Frauds needed for a judgement.
    pub frauds_min: u64,
    /// Largest difference between reported and computed numbers.
    pub reported_tolerance: f64,
}

/// Which number a gate is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateOn {
    /// The value found on the holdout.
    Estimate,
    /// The lower end of its interval: the holdout has to prove that the limit is reached.
    LowerBound,
}

/// The spans of time behind a candidate, as the trainer tells them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spans {
    /// Rows fitted on.
    pub training: Window,
    /// Rows the threshold was chosen on.
    pub threshold: Window,
    /// Rows to be judged on.
    pub holdout: Window,
    /// The instant of the decision.
    pub as_of: DateTime<Utc>,
}

/// What was measured on the holdout.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    /// Labelled rows.
    pub rows: u64,
    /// Frauds among them.
    pub frauds: u64,
    /// Recall; none without a fraud.
    pub recall: Option<Estimate>,
    /// Precision; none without a flagged row.
    pub precision: Option<Estimate>,
    /// Every metric by name, for comparison with what the trainer reports.
    pub by_name: Vec<(String, f64)>,
}

/// A rate and how sure it is; 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The value found.
    pub value: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end of its interval.
    pub high: f64,
}

/// What the artefact says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The model it is of.
    pub model: ModelName,
    /// Rows it was fitted on.
    pub training: Window,
    /// A row counts as predicted fraud when its score is at least this.
    pub operating_threshold: f64,
}

/// The verdict with its reasons.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Passed or failed.
    pub verdict: ValidationVerdict,
    /// Why it failed, one sentence each.
    pub failures: Vec<String>,
    /// The gates and whether each was reached.
    pub gates: Vec<ValidationGate>,
}

/// Why the holdout is no honest test of the candidate; empty when it is.
pub fn leakage(spans: &Spans) -> Vec<String> {
    let mut failures = Vec::new();
    if spans.holdout.start() < spans.training.end() {
        failures.push(format!(
            "leakage: the holdout {} begins before the training window {} ends",
            spans.holdout, spans.training
        ));
    }
    if spans.holdout.start() < spans.threshold.end() {
        failures.push(format!(
            "leakage: the holdout {} begins before the threshold window {} ends",
            spans.holdout, spans.threshold
        ));
    }
    if spans.holdout.end() > spans.as_of {
        failures.push(format!(
            "the holdout {} ends after the decision's instant {}",
            spans.holdout, spans.as_of
        ));
    }
    failures
}

/// Where the artefact contradicts what was announced of it; empty when it does not.
///
/// What was validated is what will score: its own threshold counts, and what it was fitted on by its own account must
/// not reach into the holdout either.
pub fn mismatch(announced: &Identity, spans: &Spans, artefact: &Identity) -> Vec<String> {
    let mut failures = Vec::new();
    if artefact.model != announced.model {
        failures.push(format!(
            "the artefact is of model `{}`, not `{}`",
            artefact.model, announced.model
        ));
    }
    if artefact.operating_threshold != announced.operating_threshold {
        failures.push(format!(
            "the artefact's operating threshold is {}, {} was announced",
            artefact.operating_threshold, announced.operating_threshold
        ));
    }
    if spans.holdout.start() < artefact.training.end() {
        failures.push(format!(
            "leakage: by its own account the artefact was fitted on {}, which ends after the holdout {} begins",
            artefact.training, spans.holdout
        ));
    }
    failures
}

/// Judges a candidate.
pub fn judge(gates: &Gates, spans: &Spans, measured: &Measured, reported: &[ReportedMetric]) -> Judgement {
    let mut failures = leakage(spans);
    if measured.rows < gates.rows_min {
        failures.push(format!(
            "the holdout has {} labelled rows, {} are needed",
            measured.rows, gates.rows_min
        ));
    }
    if measured.frauds < gates.frauds_min {
        failures.push(format!(
            "the holdout has {} frauds, {} are needed",
            measured.frauds, gates.frauds_min
        ));
    }
    let mut reached = Vec::new();
    for (metric, found, min) in [
        ("recall", measured.recall, gates.recall_min),
        ("precision", measured.precision, gates.precision_min),
    ] {
        let counts = found.map(|found| match gates.on {
            GateOn::Estimate => found.value,
            GateOn::LowerBound => found.low,
        });
        // The limit itself passes.
        let passed = counts.is_some_and(|value| value >= min);
        if !passed {
            failures.push(match (found, gates.on) {
                (None, _) => format!("{metric} has no value on these rows, {min} is needed"),
                (Some(found), GateOn::Estimate) => format!("{metric} is {found}, {min} is needed"),
                (Some(found), GateOn::LowerBound) => {
                    format!("{metric} is {found}, a lower end of {min} is needed")
                }
            });
        }
        if let Ok(min) = schemas::Share::new(min) {
            reached.push(ValidationGate {
                metric: metric.to_owned(),
                min,
                passed,
            });
        }
    }
    failures.extend(contradictions(gates, measured, reported));
    let verdict = if failures.is_empty() {
        ValidationVerdict::Passed
    } else {
        ValidationVerdict::Failed
    };
    Judgement {
        verdict,
        failures,
        gates: reached,
    }
}

impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.4} ({:.4} to {:.4})", self.value, self.low, self.high)
    }
}

/// Numbers that the trainer reports of the holdout and that cannot be reproduced.
fn contradictions<'a>(
    gates: &'a Gates,
    measured: &'a Measured,
    reported: &'a [ReportedMetric],
) -> impl Iterator<Item = String> + 'a {
    reported
        .iter()
        .filter(|metric| metric.slice == "holdout")
        .filter_map(|metric| {
            let (_, computed) = measured.by_name.iter().find(|(name, _)| *name == metric.name)?;
            let differs = (computed - metric.value.get()).abs() > gates.reported_tolerance;
            differs.then(|| {
                format!(
                    "the trainer reports {} {:.4} on the holdout, computed here it is {computed:.4}",
                    metric.name,
                    metric.value.get()
                )
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use schemas::Finite;

    const GATES: Gates = Gates {
        recall_min: 0.80,
        precision_min: 0.75,
        on: GateOn::Estimate,
        rows_min: 500,
        frauds_min: 20,
        reported_tolerance: 0.02,
    };

    fn day(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(day)
    }

    fn spans(training: (i64, i64), threshold: (i64, i64), holdout: (i64, i64)) -> Spans {
        let window = |(start, end)| Window::new(day(start), day(end)).unwrap();
        Spans {
            training: window(training),
            threshold: window(threshold),
            holdout: window(holdout),
            as_of: day(30),
        }
    }

    fn measured(rows: u64, frauds: u64, recall: Option<f64>, precision: Option<f64>) -> Measured {
        let by_name = recall
            .map(|value| ("recall".to_owned(), value))
            .into_iter()
            .collect();
        let estimate = |value: f64| Estimate {
            value,
            low: value - 0.05,
            high: value + 0.05,
        };
        Measured {
            rows,
            frauds,
            recall: recall.map(estimate),
            precision: precision.map(estimate),
            by_name,
        }
    }

    #[test]
    fn the_gates_are_inclusive_and_every_failure_is_named() {
        let honest = spans((0, 14), (14, 17), (17, 21));
        let cases = [
            (
                "both exactly at the limit",
                measured(500, 20, Some(0.80), Some(0.75)),
                0,
            ),
            (
                "recall a hair below",
                measured(500, 20, Some(0.799_999), Some(0.75)),
                1,
            ),
            (
                "precision a hair below",
                measured(500, 20, Some(0.80), Some(0.749_999)),
                1,
            ),
            ("both below", measured(500, 20, Some(0.5), Some(0.5)), 2),
            (
                "nothing was flagged: no precision",
                measured(500, 20, Some(0.0), None),
                2,
            ),
            ("one row short", measured(499, 20, Some(0.9), Some(0.9)), 1),
            ("one fraud short", measured(500, 19, Some(0.9), Some(0.9)), 1),
            ("an empty holdout is never a pass", Measured::default(), 4),
        ];
        for (case, measured, failures) in cases {
            let judgement = judge(&GATES, &honest, &measured, &[]);
            assert_eq!(
                judgement.failures.len(),
                failures,
                "{case}: {:?}",
                judgement.failures
            );
            assert_eq!(
                judgement.verdict == ValidationVerdict::Passed,
                failures == 0,
                "{case}"
            );
        }
    }

    #[test]
    fn a_holdout_that_training_may_have_seen_fails_whatever_the_numbers() {
        let good = measured(5_000, 200, Some(0.99), Some(0.99));
        let cases = [
            ("touching is fine", spans((0, 14), (14, 17), (17, 21)), true),
            ("overlaps training", spans((0, 18), (14, 17), (17, 21)), false),
            (
                "overlaps the threshold slice",
                spans((0, 14), (14, 18), (17, 21)),
                false,
            ),
            ("before training", spans((10, 14), (14, 17), (0, 9)), false),
            (
                "reaches beyond the decision",
                spans((0, 14), (14, 17), (17, 31)),
                false,
            ),
        ];
        for (case, spans, passes) in cases {
            let judgement = judge(&GATES, &spans, &good, &[]);
            assert_eq!(
                judgement.verdict == ValidationVerdict::Passed,
                passes,
                "{case}: {:?}",
                judgement.failures
            );
        }
    }

    #[test]
    fn where_the_holdout_must_prove_it_the_lower_end_counts() {
        let honest = spans((0, 14), (14, 17), (17, 21));
        let strict = Gates {
            on: GateOn::LowerBound,
            recall_min: 0.75,
            precision_min: 0.70,
            ..GATES
        };
        // Intervals of these tests reach 0.05 below the value.
        for (case, recall, precision, failures) in [
            ("both lower ends at the limit", 0.80, 0.75, 0),
            ("the value reaches it, its lower end does not", 0.79, 0.75, 1),
            ("neither lower end does", 0.76, 0.71, 2),
        ] {
            let judgement = judge(
                &strict,
                &honest,
                &measured(500, 20, Some(recall), Some(precision)),
                &[],
            );
            assert_eq!(
                judgement.failures.len(),
                failures,
                "{case}: {:?}",
                judgement.failures
            );
        }
        let judgement = judge(&strict, &honest, &measured(500, 20, Some(0.79), Some(0.9)), &[]);
        assert_eq!(
            judgement.failures,
            ["recall is 0.7900 (0.7400 to 0.8400), a lower end of 0.75 is needed"]
        );
    }

    #[test]
    fn an_artefact_that_is_not_what_was_announced_fails() {
        let honest = spans((0, 14), (14, 17), (17, 21));
        let announced = Identity {
            model: ModelName::new("fraud-cards").unwrap(),
            training: honest.training,
            operating_threshold: 0.4,
        };
        let other_model = Identity {
            model: ModelName::new("fraud-wires").unwrap(),
            ..announced.clone()
        };
        let other_threshold = Identity {
            operating_threshold: 0.400_000_1,
            ..announced.clone()
        };
        let until = |end| Identity {
            training: Window::new(day(0), day(end)).unwrap(),
            ..announced.clone()
        };
        for (case, artefact, reason) in [
            ("as announced", announced.clone(), None),
            ("fitted on less than announced", until(13), None),
            ("fitted up to the holdout", until(17), None),
            ("fitted on a part of the holdout", until(18), Some("leakage")),
            ("another model", other_model, Some("`fraud-wires`")),
            ("another threshold", other_threshold, Some("0.4000001")),
        ] {
            let failures = mismatch(&announced, &honest, &artefact);
            assert_eq!(
                failures.len(),
                usize::from(reason.is_some()),
                "{case}: {failures:?}"
            );
            assert!(
                reason.is_none_or(|reason| failures[0].contains(reason)),
                "{case}: {failures:?}"
            );
        }
    }

    #[test]
    fn reported_numbers_are_compared_and_never_trusted() {
        let honest = spans((0, 14), (14, 17), (17, 21));
        let found = measured(5_000, 200, Some(0.85), Some(0.9));
        let report = |slice: &str, value: f64| {
            vec![ReportedMetric {
                name: "recall".into(),
                slice: slice.into(),
                value: Finite::new(value).unwrap(),
            }]
        };
        for (case, reported, passes) in [
            ("within tolerance", report("holdout", 0.86), true),
            ("boasting", report("holdout", 0.95), false),
            ("another slice is another number", report("threshold", 0.95), true),
        ] {
            let judgement = judge(&GATES, &honest, &found, &reported);
            assert_eq!(
                judgement.verdict == ValidationVerdict::Passed,
                passes,
                "{case}: {:?}",
                judgement.failures
            );
        }
        // A boast cannot lift a candidate over the gate.
        let poor = measured(5_000, 200, Some(0.5), Some(0.9));
        assert_eq!(
            judge(&GATES, &honest, &poor, &report("holdout", 0.95)).verdict,
            ValidationVerdict::Failed
        );
    }
}
