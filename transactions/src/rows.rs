//! Raw values of either kind of source become a [`Batch`]; the one place that decides what is known of a label.

use crate::batch::{Batch, Label};

/// Instants that decide whether a label is known, microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Knowledge {
    /// Labels known at or before this instant count.
    pub as_of: i64,
    /// Without a `label_time` column, a label is known this long after its transaction.
    pub delay: i64,
    /// Only rows whose label became known after this instant are wanted; `None` wants all rows.
    pub since: Option<i64>,
}

impl Knowledge {
    /// When a label became known; `None` when nobody knows.
    fn known(self, time: i64, known_at: KnownAt) -> Option<i64> {
        match known_at {
            KnownAt::AfterDelay => Some(time.saturating_add(self.delay)),
            KnownAt::Column(at) => at,
        }
    }

    /// Whether a row is wanted.
    pub fn wants(self, raw: Option<f64>, time: i64, known_at: KnownAt) -> bool {
        let news = |since| {
            let known = self.known(time, known_at);
            raw.is_some() && known.is_some_and(|at| since < at && at <= self.as_of)
        };
        self.since.is_none_or(news)
    }
}

/// When a label became known, as the source says it.
#[derive(Debug, Clone, Copy)]
pub enum KnownAt {
    /// There is no `label_time` column.
    AfterDelay,
    /// There is one; null is "not yet".
    Column(Option<i64>),
}

/// What is known of a label; an error holds a value that is neither 0 nor 1.
pub fn label_of(raw: Option<f64>, time: i64, known_at: KnownAt, knowledge: Knowledge) -> Result<Label, f64> {
    let Some(raw) = raw else { return Ok(Label::Unknown) };
    let label = match raw {
        0.0 => Label::Genuine,
        1.0 => Label::Fraud,
        other => return Err(other),
    };
    let known = knowledge.known(time, known_at);
    Ok(if known.is_some_and(|at| at <= knowledge.as_of) {
        label
    } else {
        Label::Unknown
    })
}

/// A probability, NaN for a missing one; an error holds a value outside 0 to 1.
pub fn score_of(raw: Option<f64>) -> Result<f64, f64> {
    match raw {
        None => Ok(f64::NAN),
        Some(score) if score.is_nan() => Ok(f64::NAN),
        Some(score) if (0.0..=1.0).contains(&score) => Ok(score),
        Some(other) => Err(other),
    }
}

/// Sentence about a label that is neither 0 nor 1.
pub fn bad_label(value: f64) -> String {
    format!("the label is {value}; only 0 and 1 (or false and true, or null) are labels")
}

/// Sentence about a score that is no probability.
pub fn bad_score(value: f64) -> String {
    format!("the score is {value}; a probability lies between 0 and 1")
}

/// Order of two rows that happened at the same instant and have no id: by score, then feature by feature.
///
/// Missing values come last, text by its bytes: the order that the SQL of the PostgreSQL source asks for.
pub fn compare_content(batch: &Batch, a: usize, b: usize) -> std::cmp::Ordering {
    use std::cmp::Ordering;

    use crate::batch::Column;

    fn numbers(a: f64, b: f64) -> Ordering {
        a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
    }
    numbers(batch.scores[a], batch.scores[b]).then_with(|| {
        let by_feature = batch.features.iter().map(|column| match column {
            Column::Numeric(values) => numbers(values[a], values[b]),
            Column::Category { .. } => match (column.level(a), column.level(b)) {
                (Some(left), Some(right)) => left.as_bytes().cmp(right.as_bytes()),
                (left, right) => left.is_none().cmp(&right.is_none()),
            },
        });
        by_feature.fold(Ordering::Equal, Ordering::then)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_counts_from_the_instant_it_is_known() {
        let knowledge = Knowledge {
            as_of: 100,
            delay: 10,
            since: None,
        };
        let cases = [
            // raw        time  known at                       what
            (Some(1.0), 90, KnownAt::AfterDelay, Label::Fraud), // the end is inclusive
            (Some(1.0), 91, KnownAt::AfterDelay, Label::Unknown),
            (Some(0.0), 90, KnownAt::AfterDelay, Label::Genuine),
            (None, 0, KnownAt::AfterDelay, Label::Unknown),
            (Some(1.0), 0, KnownAt::Column(Some(100)), Label::Fraud),
            (Some(1.0), 0, KnownAt::Column(Some(101)), Label::Unknown),
            (Some(1.0), 0, KnownAt::Column(None), Label::Unknown),
            (Some(1.0), i64::MAX, KnownAt::AfterDelay, Label::Unknown),
        ];
        for (raw, time, known_at, want) in cases {
            assert_eq!(
                label_of(raw, time, known_at, knowledge),
                Ok(want),
                "{raw:?} {time} {known_at:?}"
            );
        }
        assert_eq!(label_of(Some(2.0), 0, KnownAt::AfterDelay, knowledge), Err(2.0));
        assert!(label_of(Some(f64::NAN), 0, KnownAt::AfterDelay, knowledge).is_err());
    }

    #[test]
    fn news_are_labels_that_became_known_after_an_instant_and_by_another() {
        let knowledge = Knowledge {
            as_of: 100,
            delay: 10,
            since: Some(50),
        };
        let cases = [
            (Some(1.0), 40, KnownAt::AfterDelay, false), // known at 50: not after it
            (Some(1.0), 41, KnownAt::AfterDelay, true),
            (Some(0.0), 90, KnownAt::AfterDelay, true),
            (Some(0.0), 91, KnownAt::AfterDelay, false),
            (None, 60, KnownAt::AfterDelay, false),
            (Some(1.0), 0, KnownAt::Column(Some(50)), false),
            (Some(1.0), 0, KnownAt::Column(Some(100)), true),
            (Some(1.0), 0, KnownAt::Column(Some(101)), false),
            (Some(1.0), 0, KnownAt::Column(None), false),
        ];
        for (raw, time, known_at, wanted) in cases {
            assert_eq!(
                knowledge.wants(raw, time, known_at),
                wanted,
                "{raw:?} {time} {known_at:?}"
            );
            let all = Knowledge {
                since: None,
                ..knowledge
            };
            assert!(all.wants(raw, time, known_at));
        }
    }

    #[test]
    fn a_score_is_a_probability_or_missing() {
        assert!(score_of(None).unwrap().is_nan());
        assert_eq!(score_of(Some(1.0)), Ok(1.0));
        assert_eq!(score_of(Some(85.0)), Err(85.0));
        assert_eq!(score_of(Some(-0.1)), Err(-0.1));
    }
}
