//! Scores and labels of a window reduced to counts.
//!
//! Of scores it is kept in which cell they lie: fiftieths of 0 to 1, of which the one with the operating threshold is cut in two there,
//! so that every cell lies on one side of it. Labels are learnt as they arrive. Outcomes merge by addition.

use serde::{Deserialize, Serialize};

use crate::Unusable;
use crate::performance::Confusion;
use crate::proportion::Rate;

/// Equal-width bins of the score on `[0, 1]`.
pub const SCORE_BINS: usize = 50;
/// Cells that scores are counted in: the bins, of which the one with the operating threshold is cut in two there.
pub const SCORE_CELLS: usize = SCORE_BINS + 1;

/// What is known of a row's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Not known yet.
    Unknown,
    /// Known to be genuine.
    Genuine,
    /// Known to be fraud.
    Fraud,
}

/// Scores and labels of a window as counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The operating threshold that predictions were made with.
    threshold: f64,
    rows: u64,
    labelled: u64,
    frauds: u64,
    scored: u64,
    confusion: Confusion,
    /// Rows per score cell: label unknown, genuine, fraud.
    score_counts: [Vec<u64>; 3],
}

impl Outcome {
    /// The outcome of no rows, for predictions at this operating threshold.
    pub fn empty(threshold: f64) -> Self {
        let none = || vec![0; SCORE_CELLS];
        Self {
            threshold,
            rows: 0,
            labelled: 0,
            frauds: 0,
            scored: 0,
            confusion: Confusion::default(),
            score_counts: [none(), none(), none()],
        }
    }

    /// Counts one row; a score of NaN is missing.
    pub fn add(&mut self, score: f64, label: Known) {
        self.add_rows(score, label, 1);
    }

    /// Counts rows that all have this label, and scores that this one stands for (NaN: none has a score): they lie in one of
    /// [`SCORE_BINS`] and on one side of the threshold.
    pub fn add_rows(&mut self, score: f64, label: Known, rows: u64) {
        self.rows += rows;
        if label != Known::Unknown {
            self.labelled += rows;
        }
        if label == Known::Fraud {
            self.frauds += rows;
        }
        if score.is_nan() {
            return;
        }
        self.scored += rows;
        self.score_counts[label as usize][score_cell(score, self.threshold)] += rows;
        if label != Known::Unknown {
            let (predicted, is_fraud) = (score >= self.threshold, label == Known::Fraud);
            self.confusion.add_rows(predicted, is_fraud, rows);
        }
    }

    /// The labels of rows that were counted as unknown became known; scores as in [`add_rows`](Self::add_rows).
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when fewer rows of this score are unknown: they were counted otherwise; nothing is then changed.
    pub fn learn(&mut self, score: f64, label: Known, rows: u64) -> Result<(), Unusable> {
        if label == Known::Unknown {
            return Ok(());
        }
        if self.labelled + rows > self.rows {
            return Err(Unusable::BinsDiffer);
        }
        if !score.is_nan() {
            let cell = score_cell(score, self.threshold);
            let unknown = &mut self.score_counts[Known::Unknown as usize][cell];
            *unknown = unknown.checked_sub(rows).ok_or(Unusable::BinsDiffer)?;
            self.score_counts[label as usize][cell] += rows;
            let (predicted, is_fraud) = (score >= self.threshold, label == Known::Fraud);
            self.confusion.add_rows(predicted, is_fraud, rows);
        }
        self.labelled += rows;
        if label == Known::Fraud {
            self.frauds += rows;
        }
        Ok(())
    }

    /// Adds the counts of other rows.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when the other was predicted at another threshold; nothing is then changed.
    pub fn merge(&mut self, other: &Self) -> Result<(), Unusable> {
        if !other.fits(self.threshold) {
            return Err(Unusable::BinsDiffer);
        }
        self.rows += other.rows;
        self.labelled += other.labelled;
        self.frauds += other.frauds;
        self.scored += other.scored;
        self.confusion.merge(&other.confusion);
        for (mine, theirs) in self
            .score_counts
            .iter_mut()
            .flatten()
            .zip(other.score_counts.iter().flatten())
        {
            *mine += theirs;
        }
        Ok(())
    }

    /// Whether it was counted for predictions at this threshold, in the cells that are used now.
    pub fn fits(&self, threshold: f64) -> bool {
        let cells = |counts: &Vec<u64>| counts.len() == SCORE_CELLS;
        self.threshold.to_bits() == threshold.to_bits() && self.score_counts.iter().all(cells)
    }

    /// The operating threshold of the predictions.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows whose label is known.
    pub fn labelled(&self) -> u64 {
        self.labelled
    }

    /// Rows that have a score.
    pub fn scored(&self) -> u64 {
        self.scored
    }

    /// Frauds among the rows whose label is known.
    pub fn fraud_rate(&self) -> Rate {
        Rate {
            hits: self.frauds,
            of: self.labelled,
        }
    }

    /// Predictions against labels, over rows that have both.
    pub fn confusion(&self) -> &Confusion {
        &self.confusion
    }

    /// Rows that have a score, by its cell, of those whose label is this.
    pub fn score_counts(&self, label: Known) -> &[u64] {
        &self.score_counts[label as usize]
    }
}

/// The bin of a score.
fn score_bin(score: f64) -> usize {
    ((score * SCORE_BINS as f64) as usize).min(SCORE_BINS - 1)
}

/// The cell of a score. Those above the threshold, itself included, come after those below it.
fn score_cell(score: f64, threshold: f64) -> usize {
    score_bin(score) + usize::from(score >= threshold)
}

/// The first cell of scores that are flagged.
pub fn first_flagged_cell(threshold: f64) -> usize {
    score_bin(threshold) + 1
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_arrive_later_make_the_counts_that_they_would_have_made_at_once() {
        let rows = [
            (0.9, Known::Fraud),
            (0.1, Known::Fraud),
            (0.7, Known::Genuine),
            (f64::NAN, Known::Fraud),
            (1.0, Known::Genuine),
            (0.2, Known::Unknown),
        ];
        let (mut at_once, mut later) = (Outcome::empty(0.5), Outcome::empty(0.5));
        for (score, label) in rows {
            at_once.add(score, label);
            later.add(score, Known::Unknown);
        }
        for (score, label) in rows.into_iter().rev() {
            later.learn(score, label, 1).unwrap();
        }
        assert_eq!(later, at_once);
        // A row that is not there, or whose label is known, is noticed and changes nothing.
        assert_eq!(later.learn(0.9, Known::Genuine, 1), Err(Unusable::BinsDiffer));
        assert_eq!(later, at_once);
        later.learn(0.2, Known::Genuine, 1).unwrap();
        assert_eq!(
            later.learn(f64::NAN, Known::Genuine, 1),
            Err(Unusable::BinsDiffer)
        );
    }

    #[test]
    fn cells_of_scores_lie_on_one_side_of_the_threshold() {
        for threshold in [0.0, 0.01, 0.02, 0.37, 0.5, 0.999, 1.0] {
            let first = first_flagged_cell(threshold);
            let mut before = 0;
            for step in 0..=2_000_u32 {
                let score = f64::from(step) / 2_000.0;
                let cell = score_cell(score, threshold);
                assert!(cell >= before && cell < SCORE_CELLS, "{score} {threshold}");
                assert_eq!(cell >= first, score >= threshold, "{score} {threshold}");
                before = cell;
            }
        }
    }

    #[test]
    fn outcomes_tell_apart_what_is_not_labelled_and_not_scored() {
        let mut outcome = Outcome::empty(0.5);
        for (score, label) in [
            (0.5, Known::Fraud),
            (0.49, Known::Fraud),
            (0.9, Known::Genuine),
            (0.1, Known::Genuine),
            (0.7, Known::Unknown),
            (f64::NAN, Known::Fraud),
            (1.0, Known::Unknown),
        ] {
            outcome.add(score, label);
        }
        assert_eq!((outcome.rows(), outcome.labelled(), outcome.scored()), (7, 5, 6));
        assert_eq!(outcome.fraud_rate(), Rate { hits: 3, of: 5 });
        let confusion = outcome.confusion();
        assert_eq!(
            (confusion.true_positives, confusion.false_negatives),
            (1, 1),
            "0.5 is an alarm"
        );
        assert_eq!((confusion.false_positives, confusion.true_negatives), (1, 1));
        let cells = [Known::Unknown, Known::Genuine, Known::Fraud].map(|label| outcome.score_counts(label));
        assert_eq!(cells.iter().flat_map(|counts| counts.iter()).sum::<u64>(), 6);
        assert_eq!(cells[0][SCORE_CELLS - 1], 1, "a score of 1 lies in the last cell");
        assert_eq!(outcome.merge(&Outcome::empty(0.4)), Err(Unusable::BinsDiffer));
    }
}
