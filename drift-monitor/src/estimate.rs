//! What scores tell before labels are known: performance to expect (confidence-based performance estimation) and prediction drift.
//! Pure, and judged by nobody.

use drift_stats::cbpe::{Calibration, ExpectedConfusion};
use drift_stats::null_law::{COMMON, Comparison};
use drift_stats::outcome::{Known, Outcome, SCORE_CELLS, first_flagged_cell};
use drift_stats::proportion::{Rate, two_rates};
use drift_stats::{Histogram, Unusable, proportion};
use schemas::events::{EstimatedPerformance, Interval, PredictionDrift};
use schemas::{Finite, Share};

use crate::store::Champion;

/// Probability of the intervals.
const CONFIDENCE: f64 = 0.95;
/// Most ranges of the score that prediction drift looks at.
const RANGES_MAX: usize = 10;
/// Rows of the validation in each of them, unless a side of the threshold has fewer: as many as make a bin common.
const RANGE_ROWS_MIN: u64 = COMMON as u64;
/// More rows than this are no counts of a validation.
const ROWS_MAX: u64 = 1 << 53;
const EVERY_LABEL: [Known; 3] = [Known::Unknown, Known::Genuine, Known::Fraud];
const KNOWN_LABELS: [Known; 2] = [Known::Genuine, Known::Fraud];

/// What the scores of a champion stand for, as its validation found; `None` where the validation did not count them.
#[derive(Debug)]
pub struct Estimator {
    calibration: Calibration,
    /// The rows of the validation by the cells of their scores.
    validated: Vec<u64>,
    /// The first cell of those that are flagged.
    first_flagged: usize,
    /// Ranges of cells that prediction drift looks at, in order: one more than the last cell of each.
    ranges: Vec<usize>,
}

/// Rates that scores let expect.
#[derive(Debug, Default, PartialEq)]
pub struct Rates {
    /// Recall to expect; none when no fraud is expected.
    pub recall: Option<Share>,
    /// Where it comes to lie.
    pub recall_interval: Option<Interval>,
    /// Precision to expect; none when no row is flagged.
    pub precision: Option<Share>,
    /// Where it comes to lie.
    pub precision_interval: Option<Interval>,
}

impl Estimator {
    /// Of a champion.
    pub fn of(champion: &Champion) -> Option<Self> {
        let scores = champion.score_counts.as_ref()?;
        let threshold = champion.operating_threshold;
        let counts = || scores.genuine.iter().chain(&scores.frauds);
        let known = if counts().fold(0_u64, |sum, count| sum.saturating_add(*count)) > ROWS_MAX {
            Err(Unusable::OutsideRange {
                low: 0.0,
                high: ROWS_MAX as f64,
            })
        } else {
            Calibration::fit(threshold, &scores.genuine, &scores.frauds)
        };
        match known {
            Ok(calibration) => {
                let validated = added([&scores.genuine, &scores.frauds]);
                let first_flagged = first_flagged_cell(threshold).min(validated.len());
                Some(Self {
                    calibration,
                    ranges: ranges(&validated, first_flagged),
                    validated,
                    first_flagged,
                })
            }
            Err(why) => {
                tracing::warn!("no estimates by the scores of {}: {why}", champion.version);
                None
            }
        }
    }

    /// Of all rows that have a score, whatever is known of their labels; `None` when these are fewer than `rows_min`.
    pub fn of_scored(&self, rows: &Outcome, rows_min: u64) -> Option<EstimatedPerformance> {
        if rows.scored() < rows_min.max(1) {
            return None;
        }
        let (confusion, rates) = self.expect(&cells(rows, &EVERY_LABEL))?;
        let frauds = confusion.true_positives + confusion.false_negatives;
        Some(EstimatedPerformance {
            rows: rows.scored(),
            frauds: Finite::new(frauds).ok()?,
            recall: rates.recall,
            precision: rates.precision,
            recall_interval: rates.recall_interval,
            precision_interval: rates.precision_interval,
        })
    }

    /// Of the rows whose label is known, to be held beside what was realised on them; no rate where there is none.
    pub fn of_labelled(&self, rows: &Outcome) -> Rates {
        let expected = self.expect(&cells(rows, &KNOWN_LABELS));
        expected.map(|(_, rates)| rates).unwrap_or_default()
    }

    fn expect(&self, cells: &[u64]) -> Option<(ExpectedConfusion, Rates)> {
        let confusion = self.calibration.expect(cells).ok()?;
        let intervals = self.calibration.intervals(cells, CONFIDENCE).ok()?;
        let rates = Rates {
            recall: confusion.recall().and_then(share),
            recall_interval: intervals.recall.and_then(interval),
            precision: confusion.precision().and_then(share),
            precision_interval: intervals.precision.and_then(interval),
        };
        Some((confusion, rates))
    }

    /// How the scores of all rows lie beside those of the validation; `None` when fewer than `rows_min` have one. `alpha` is the
    /// probability with which chance alone makes it more than chance explains: half of it for the index, half for the flagged rows.
    pub fn prediction(&self, rows: &Outcome, rows_min: u64, alpha: f64) -> Option<PredictionDrift> {
        if rows.scored() < rows_min.max(1) {
            return None;
        }
        let current = cells(rows, &EVERY_LABEL);
        let [validated, flagged] = [&self.validated, &current].map(|cells| Rate {
            hits: cells.iter().skip(self.first_flagged).sum(),
            of: cells.iter().sum(),
        });
        let [before, now] =
            [&self.validated, &current].map(|cells| Histogram::from_counts(in_ranges(cells, &self.ranges)));
        let found = Comparison::of(&before, &now, 0.0).ok()?;
        let noise = found.chance(alpha / 2.0);
        let p_value = two_rates(validated, flagged).ok()?.p_value_exact;
        Some(PredictionDrift {
            psi: Finite::new(found.psi).ok()?,
            noise: Finite::new(noise).ok()?,
            validated_flagged_share: Share::of(validated.hits, validated.of)?,
            flagged_share: Share::of(flagged.hits, flagged.of)?,
            p_value: share(p_value)?,
            beyond_chance: found.psi > noise || p_value < alpha / 2.0,
        })
    }
}

/// Neighbouring cells on one side of the threshold, with at least so many rows of the validation that there are at most [`RANGES_MAX`].
fn ranges(validated: &[u64], first_flagged: usize) -> Vec<usize> {
    let mut rows_min = RANGE_ROWS_MIN;
    loop {
        let mut ends = Vec::new();
        for side in [0..first_flagged, first_flagged..validated.len()] {
            let Some(last) = side.clone().next_back() else {
                continue;
            };
            // From above: most rows lie in the lowest cells, and ranges above them are to be no wider than they must.
            let (mut rows, mut begun) = (0, Vec::new());
            for cell in side.clone().rev() {
                if rows >= rows_min {
                    begun.push(cell + 1);
                    rows = 0;
                }
                rows += validated[cell];
            }
            // What is left over belongs to its neighbour.
            if rows < rows_min {
                begun.pop();
            }
            begun.reverse();
            ends.extend(begun);
            ends.push(last + 1);
        }
        if ends.len() <= RANGES_MAX {
            return ends;
        }
        rows_min *= 2;
    }
}

fn in_ranges(cells: &[u64], ends: &[usize]) -> Vec<u64> {
    let mut from = 0;
    ends.iter()
        .map(|end| {
            let rows = cells[from..*end].iter().sum();
            from = *end;
            rows
        })
        .collect()
}

/// Rows by the cells of their scores, of these labels.
fn cells(rows: &Outcome, labels: &[Known]) -> Vec<u64> {
    added(labels.iter().map(|label| rows.score_counts(*label)))
}

fn added<C: AsRef<[u64]>>(counts: impl IntoIterator<Item = C>) -> Vec<u64> {
    let mut sum = vec![0; SCORE_CELLS];
    for counts in counts {
        for (sum, count) in sum.iter_mut().zip(counts.as_ref()) {
            *sum += count;
        }
    }
    sum
}

fn interval(found: proportion::Interval) -> Option<Interval> {
    Some(Interval {
        low: share(found.low)?,
        high: share(found.high)?,
        level: share(CONFIDENCE)?,
    })
}

/// Sums of parts may exceed the whole by the last bit.
fn share(value: f64) -> Option<Share> {
    Share::new(value.clamp(0.0, 1.0)).ok()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use schemas::events::ScoreCounts;
    use schemas::{ModelVersion, Window};

    use super::*;

    fn champion(scores: Option<ScoreCounts>) -> Champion {
        let at = DateTime::<Utc>::UNIX_EPOCH;
        Champion {
            version: ModelVersion::new("v1").unwrap(),
            promoted_as_of: at,
            training_window: Window::new(at, at + TimeDelta::hours(1)).unwrap(),
            operating_threshold: 0.5,
            validated_recall: 0.9,
            validated_precision: 0.9,
            validated_frauds: 100,
            score_counts: scores,
        }
    }

    #[test]
    fn rows_without_a_score_or_a_validation_let_expect_nothing() {
        let mut holdout = Outcome::empty(0.5);
        holdout.add_rows(0.9, Known::Fraud, 90);
        holdout.add_rows(0.9, Known::Genuine, 10);
        holdout.add_rows(0.2, Known::Fraud, 10);
        holdout.add_rows(0.2, Known::Genuine, 890);
        let counts = |label| holdout.score_counts(label).to_vec();
        let scores = ScoreCounts {
            genuine: counts(Known::Genuine),
            frauds: counts(Known::Fraud),
        };
        let estimator = Estimator::of(&champion(Some(scores.clone()))).unwrap();
        let mut rows = Outcome::empty(0.5);
        rows.add_rows(f64::NAN, Known::Genuine, 100);
        assert_eq!(estimator.of_scored(&rows, 1), None);
        assert_eq!(estimator.of_labelled(&rows), Rates::default());
        rows.add_rows(0.9, Known::Unknown, 10);
        assert_eq!(estimator.of_scored(&rows, 11), None, "too few");
        let found = estimator.of_scored(&rows, 10).unwrap();
        assert_eq!((found.rows, found.frauds.get()), (10, 9.0));
        assert_eq!(found.recall.map(Share::get), Some(1.0));
        assert!((found.precision.unwrap().get() - 0.9).abs() < 1e-12);
        assert_eq!(
            estimator.of_labelled(&rows),
            Rates::default(),
            "no label is known"
        );
        // The validation's own rows are expected to do what they did.
        let found = estimator.of_labelled(&holdout);
        let near = |share: Option<Share>| (share.unwrap().get() - 0.9).abs() < 1e-12;
        assert!(near(found.recall) && near(found.precision), "{found:?}");
        let around = found.recall_interval.unwrap();
        assert!(around.low.get() < 0.9 && around.high.get() > 0.9, "{around:?}");
        assert!(Estimator::of(&champion(None)).is_none());
        let broken = ScoreCounts {
            frauds: vec![1],
            ..scores
        };
        assert!(
            Estimator::of(&champion(Some(broken))).is_none(),
            "counted in other cells"
        );
    }

    #[test]
    fn scores_that_moved_are_told_from_scores_that_did_not() {
        let [same, more, few] = [(20, 980), (60, 940), (1, 5)].map(|(high, low)| {
            let mut rows = Outcome::empty(0.5);
            rows.add_rows(0.9, Known::Unknown, high);
            rows.add_rows(0.2, Known::Unknown, low);
            rows
        });
        let estimator = estimator_of(&same);
        let found = estimator.prediction(&same, 500, 0.01).unwrap();
        assert_eq!((found.psi, found.beyond_chance), (Finite::ZERO, false));
        assert!(found.noise.get() > 0.0);
        let flagged =
            |found: &PredictionDrift| (found.validated_flagged_share.get(), found.flagged_share.get());
        assert_eq!(flagged(&found), (0.02, 0.02));
        let found = estimator.prediction(&more, 500, 0.01).unwrap();
        // (0.06 - 0.02) ln 3 + (0.94 - 0.98) ln(0.94 / 0.98)
        assert!((found.psi.get() - 0.045_611).abs() < 1e-5, "{found:?}");
        assert!(found.beyond_chance && found.psi > found.noise, "{found:?}");
        assert_eq!(flagged(&found), (0.02, 0.06));
        assert!(found.p_value.get() < 1e-4, "{found:?}");
        assert_eq!(estimator.prediction(&few, 500, 0.01), None, "too few");
    }

    fn estimator_of(validated: &Outcome) -> Estimator {
        let scores = ScoreCounts {
            genuine: cells(validated, &EVERY_LABEL),
            frauds: vec![0; SCORE_CELLS],
        };
        Estimator::of(&champion(Some(scores))).unwrap()
    }

    /// As scores of a fraud model lie: nearly all near 0, some anywhere, those of fraud near 1; `flagged` times as many of those.
    fn scored(rows: u64, flagged: f64) -> Outcome {
        let mut outcome = Outcome::empty(0.5);
        let of = |per_mille: f64| (rows as f64 * per_mille / 1_000.0).round() as u64;
        for tenth in 0..5 {
            outcome.add_rows(f64::from(tenth) / 10.0 + 0.05, Known::Unknown, of(4.0));
            outcome.add_rows(
                f64::from(tenth) / 10.0 + 0.55,
                Known::Unknown,
                of(0.3 * f64::from(tenth + 1) * flagged),
            );
        }
        let others = rows - outcome.rows();
        outcome.add_rows(0.001, Known::Unknown, others);
        outcome
    }

    #[test]
    fn twice_or_half_as_many_flagged_rows_are_seen_in_an_hourly_window() {
        let estimator = estimator_of(&scored(10_000, 1.0));
        // The level of one check among 720 in a month, as the defaults have it.
        let alpha = 1.0 / 3.0 / 720.0;
        for (rows, flagged, seen) in [
            (1_440, 1.0, false),
            (10_000, 1.0, false),
            (100_000, 1.0, false),
            (10_000, 2.0, true),
            (100_000, 0.5, true),
            (1_440, 4.0, true),
        ] {
            let found = estimator.prediction(&scored(rows, flagged), 500, alpha).unwrap();
            assert_eq!(
                found.beyond_chance, seen,
                "{rows} rows, {flagged} times: {found:?}"
            );
        }
    }

    #[test]
    fn ranges_are_common_few_and_on_one_side_of_the_threshold() {
        let cells = |of: &dyn Fn(usize) -> u64| (0..SCORE_CELLS).map(of).collect::<Vec<u64>>();
        let cases = [
            ("nothing at all", cells(&|_| 0), vec![26, 51]),
            (
                "the same everywhere",
                cells(&|_| 1_000),
                vec![6, 11, 16, 21, 26, 31, 36, 41, 46, 51],
            ),
            (
                "all near 0",
                cells(&|cell| if cell == 0 { 10_000 } else { 0 }),
                vec![26, 51],
            ),
            (
                "few flagged, some in between",
                cells(&|cell| match cell {
                    0 => 9_000,
                    1..26 => 10,
                    _ => 4,
                }),
                vec![11, 26, 51],
            ),
        ];
        for (case, validated, wanted) in cases {
            let found = ranges(&validated, 26);
            assert_eq!(found, wanted, "{case}");
            let rows: u64 = in_ranges(&validated, &found).iter().sum();
            assert_eq!(rows, validated.iter().sum::<u64>(), "{case}");
        }
        // Thresholds at the ends leave a side without cells.
        assert_eq!(ranges(&cells(&|_| 1), 51), vec![51]);
        assert_eq!(ranges(&cells(&|_| 1), 0), vec![51]);
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        let absurd = ScoreCounts {
            genuine: vec![u64::MAX; SCORE_CELLS],
            frauds: vec![u64::MAX; SCORE_CELLS],
        };
        assert!(Estimator::of(&champion(Some(absurd))).is_none());
    }
}
