//! Whether rows of two samples can be told apart: drift of features *together*, which no single feature shows.
//!
//! A small classifier learns which sample a row comes from; on rows that it did not learn from, its area under the ROC curve says how
//! well. 0.5 is not at all: nothing moved that it can see. 1 is always. Unit: none. Range: 0 to 1, and below 0.5 only by chance.
//! Each row is scored by a model of the other folds; the interval is that of [`Ranking::roc_auc_interval`] on all of these scores,
//! and evidence of drift is an interval above 0.5.
//!
//! The model: boosted trees of depth 3 on the logistic loss, from histograms (Friedman, *Greedy function approximation*, 2001; second-order
//! leaves as in Chen and Guestrin, *XGBoost*, 2016). Numbers are read in 32 quantile bins of both samples together, so neither scale nor
//! outliers matter; levels by how frequent they are, those beyond the thirtieth together; missing values in a bin of their own. Rows go to
//! folds by a fixed hash of their position: the same rows in the same order give the same number.
//!
//! Limits: it needs a few hundred rows of each sample, and its cost grows with rows, features and trees: 5,000 rows of each and 33
//! features take about a second. What is the number or the time of a row must be left out, for it tells any two samples apart.

use std::collections::BTreeMap;

use crate::performance::Ranking;
use crate::profile::Values;
use crate::proportion::Interval;
use crate::reference::spread;
use crate::{Sample, Unusable};

/// Rows that each sample needs.
pub const ROWS_MIN: u64 = 200;
/// Bins of a feature, the one of missing values included.
const BINS: usize = 33;
/// Levels that have a bin of their own.
const LEVELS_MAX: usize = 30;

/// How the classifier learns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DomainClassifier {
    /// Parts that the rows are divided into, 2 or more; each is scored by a model of the others.
    pub folds: usize,
    /// Trees of a model.
    pub trees: usize,
    /// Largest number of questions on the way to a leaf, 1 to 8.
    pub depth: usize,
    /// Part of each tree's answer that counts, above 0, to 1.
    pub learning_rate: f64,
    /// Two-sided confidence of the interval.
    pub confidence: f64,
}

impl Default for DomainClassifier {
    fn default() -> Self {
        Self {
            folds: 5,
            trees: 40,
            depth: 3,
            learning_rate: 0.2,
            confidence: 0.95,
        }
    }
}

/// How well two samples can be told apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Separation {
    /// Area under the ROC curve on rows that were not learnt from.
    pub auc: f64,
    /// Its interval.
    pub interval: Interval,
    /// The part of each feature in the models' answers, 0 to 1; they add up to 1, or are all 0 when nothing was learnt.
    pub importance: Vec<f64>,
}

impl DomainClassifier {
    /// Learns and measures. `reference` and `current` hold one entry per feature, in the same order and of the same kinds.
    ///
    /// # Errors
    /// [`Unusable::TooFewValues`] below [`ROWS_MIN`] rows, [`Unusable::BinsDiffer`] when the features do not fit together.
    pub fn separate(&self, reference: &[Values<'_>], current: &[Values<'_>]) -> Result<Separation, Unusable> {
        let table = Table::new(reference, current)?;
        let folds = self.folds.max(2) as u64;
        let fold_of: Vec<u64> = (0..table.rows as u64).map(|row| spread(row) % folds).collect();
        let mut scores = vec![0.0; table.rows];
        let mut gains = vec![0.0; table.bins.len()];
        for fold in 0..folds {
            let learnt: Vec<u32> = rows_where(&fold_of, |of| of != fold);
            let asked: Vec<u32> = rows_where(&fold_of, |of| of == fold);
            let trees = self.learn(&table, learnt, &mut gains);
            for row in asked {
                scores[row as usize] = trees.iter().map(|tree| tree.answer(&table, row)).sum();
            }
        }
        let ranking = Ranking::new(&scores, &table.is_current)?;
        let total: f64 = gains.iter().sum();
        Ok(Separation {
            auc: ranking.roc_auc()?,
            interval: ranking.roc_auc_interval(self.confidence)?,
            importance: gains
                .iter()
                .map(|gain| if total > 0.0 { gain / total } else { 0.0 })
                .collect(),
        })
    }

    fn learn(&self, table: &Table, rows: Vec<u32>, gains: &mut [f64]) -> Vec<Tree> {
        // What is known without any question is no part of an answer: folds differ in it by chance.
        let current = rows.iter().filter(|row| table.is_current[**row as usize]).count() as f64;
        let odds = (current.max(0.5) / (rows.len() as f64 - current).max(0.5)).ln();
        let mut margin = vec![odds; table.rows];
        let mut slopes = vec![(0.0, 0.0); table.rows];
        let mut trees = Vec::with_capacity(self.trees);
        let mut rows = rows;
        for _ in 0..self.trees {
            for row in &rows {
                let row = *row as usize;
                let guess = 1.0 / (1.0 + f64::exp(-margin[row]));
                let truth = f64::from(u8::from(table.is_current[row]));
                slopes[row] = (truth - guess, guess * (1.0 - guess));
            }
            let mut tree = Tree::default();
            self.grow(
                table,
                &mut rows,
                &slopes,
                self.depth.clamp(1, 8),
                &mut tree,
                gains,
            );
            // Nothing is left to be asked.
            if tree.nodes.len() == 1 {
                break;
            }
            for row in &rows {
                margin[*row as usize] += tree.answer(table, *row);
            }
            trees.push(tree);
        }
        trees
    }

    /// Grows a node and what is below it; returns its position.
    fn grow(
        &self,
        table: &Table,
        rows: &mut [u32],
        slopes: &[(f64, f64)],
        depth: usize,
        tree: &mut Tree,
        gains: &mut [f64],
    ) -> usize {
        let at = tree.nodes.len();
        let sum = rows.iter().fold((0.0, 0.0), |(slope, curve), row| {
            let (more, bend) = slopes[*row as usize];
            (slope + more, curve + bend)
        });
        tree.nodes
            .push(Node::Leaf(self.learning_rate * sum.0 / (sum.1 + RIDGE)));
        let best = if depth == 0 {
            None
        } else {
            best_question(table, rows, slopes, sum)
        };
        let Some(Question { feature, bin, gain }) = best else {
            return at;
        };
        gains[feature] += gain;
        let column = &table.bins[feature];
        let (below, above) = divide(rows, |row| usize::from(column[row as usize]) <= bin);
        let below = self.grow(table, below, slopes, depth - 1, tree, gains);
        let above = self.grow(table, above, slopes, depth - 1, tree, gains);
        tree.nodes[at] = Node::Question {
            feature,
            bin,
            below,
            above,
        };
        at
    }
}

/// Keeps leaves of few rows small.
const RIDGE: f64 = 1.0;
/// A question that says less is not asked.
const GAIN_MIN: f64 = 1.0;
/// Curvature that each side of a question keeps: about eighty rows.
const CURVE_MIN: f64 = 20.0;

struct Question {
    feature: usize,
    bin: usize,
    gain: f64,
}

fn best_question(table: &Table, rows: &[u32], slopes: &[(f64, f64)], sum: (f64, f64)) -> Option<Question> {
    let worth = |(slope, curve): (f64, f64)| slope * slope / (curve + RIDGE);
    let mut best: Option<Question> = None;
    for (feature, column) in table.bins.iter().enumerate() {
        let mut bins = [(0.0, 0.0); BINS];
        for row in rows {
            let (slope, curve) = slopes[*row as usize];
            let bin = &mut bins[usize::from(column[*row as usize])];
            *bin = (bin.0 + slope, bin.1 + curve);
        }
        let mut below = (0.0, 0.0);
        for (bin, (slope, curve)) in bins[..BINS - 1].iter().enumerate() {
            below = (below.0 + slope, below.1 + curve);
            let above = (sum.0 - below.0, sum.1 - below.1);
            if below.1 < CURVE_MIN || above.1 < CURVE_MIN {
                continue;
            }
            let gain = worth(below) + worth(above) - worth(sum);
            if gain > best.as_ref().map_or(GAIN_MIN, |best| best.gain) {
                best = Some(Question { feature, bin, gain });
            }
        }
    }
    best
}

/// Those first that belong below.
fn divide(rows: &mut [u32], is_below: impl Fn(u32) -> bool) -> (&mut [u32], &mut [u32]) {
    let mut count = 0;
    for at in 0..rows.len() {
        if is_below(rows[at]) {
            rows.swap(at, count);
            count += 1;
        }
    }
    rows.split_at_mut(count)
}

#[derive(Debug, Default)]
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    Leaf(f64),
    Question {
        feature: usize,
        bin: usize,
        below: usize,
        above: usize,
    },
}

impl Tree {
    fn answer(&self, table: &Table, row: u32) -> f64 {
        let mut at = 0;
        loop {
            match self.nodes[at] {
                Node::Leaf(answer) => return answer,
                Node::Question {
                    feature,
                    bin,
                    below,
                    above,
                } => {
                    let is_below = usize::from(table.bins[feature][row as usize]) <= bin;
                    at = if is_below { below } else { above };
                }
            }
        }
    }
}

/// Both samples, the reference first, as bins.
struct Table {
    rows: usize,
    is_current: Vec<bool>,
    /// By feature, one bin per row; 0 is missing.
    bins: Vec<Vec<u8>>,
}

impl Table {
    fn new(reference: &[Values<'_>], current: &[Values<'_>]) -> Result<Self, Unusable> {
        let sizes = [reference, current].map(|columns| columns.first().map_or(0, Values::len));
        for (sample, size) in [Sample::Reference, Sample::Current].into_iter().zip(sizes) {
            let values = size as u64;
            if values < ROWS_MIN {
                let min = ROWS_MIN;
                return Err(Unusable::TooFewValues { sample, values, min });
            }
        }
        let fits = reference.len() == current.len()
            && reference.iter().all(|column| column.len() == sizes[0])
            && current.iter().all(|column| column.len() == sizes[1]);
        if !fits {
            return Err(Unusable::BinsDiffer);
        }
        let bins = reference
            .iter()
            .zip(current)
            .map(|pair| match pair {
                (Values::Numbers(before), Values::Numbers(now)) => Ok(numbers(before, now)),
                (Values::Levels { .. }, Values::Levels { .. }) => Ok(levels(pair.0, pair.1)),
                _ => Err(Unusable::BinsDiffer),
            })
            .collect::<Result<_, _>>()?;
        let mut is_current = vec![false; sizes[0]];
        is_current.resize(sizes[0] + sizes[1], true);
        Ok(Self {
            rows: is_current.len(),
            is_current,
            bins,
        })
    }
}

fn numbers(before: &[f64], now: &[f64]) -> Vec<u8> {
    let mut sorted: Vec<f64> = before
        .iter()
        .chain(now)
        .copied()
        .filter(|v| !v.is_nan())
        .collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let intervals = BINS - 1;
    let mut edges: Vec<f64> = (1..intervals)
        .filter_map(|step| sorted.get(sorted.len() * step / intervals).copied())
        .collect();
    edges.dedup();
    let bin = |value: &f64| {
        if value.is_nan() {
            0
        } else {
            // At most 31 edges.
            1 + edges.partition_point(|edge| edge <= value) as u8
        }
    };
    before.iter().chain(now).map(bin).collect()
}

fn levels(before: &Values<'_>, now: &Values<'_>) -> Vec<u8> {
    let names = |column: &Values<'_>| match column {
        Values::Levels { codes, levels } => codes
            .iter()
            .map(|code| levels.get(*code as usize).cloned())
            .collect::<Vec<Option<String>>>(),
        Values::Numbers(_) => Vec::new(),
    };
    let rows: Vec<Option<String>> = names(before).into_iter().chain(names(now)).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in rows.iter().flatten() {
        *counts.entry(name).or_default() += 1;
    }
    let mut ranked: Vec<(&str, usize)> = counts.into_iter().collect();
    ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let bins: BTreeMap<&str, u8> = ranked
        .iter()
        .enumerate()
        .map(|(rank, (name, _))| (*name, 1 + rank.min(LEVELS_MAX) as u8))
        .collect();
    rows.iter()
        .map(|name| name.as_deref().map_or(0, |name| bins[name]))
        .collect()
}

fn rows_where(fold_of: &[u64], wanted: impl Fn(u64) -> bool) -> Vec<u32> {
    (0_u32..)
        .zip(fold_of)
        .filter(|(_, fold)| wanted(**fold))
        .map(|(row, _)| row)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Even numbers from 0 to 1, others for each seed.
    fn even(seed: u64, rows: u64) -> Vec<f64> {
        (0..rows)
            .map(|row| (spread(row + seed * 1_000_003) >> 11) as f64 / (1_u64 << 53) as f64)
            .collect()
    }

    fn values(columns: &[Vec<f64>]) -> Vec<Values<'_>> {
        columns.iter().map(|column| Values::Numbers(column)).collect()
    }

    fn separate(reference: &[Vec<f64>], current: &[Vec<f64>]) -> Separation {
        DomainClassifier::default()
            .separate(&values(reference), &values(current))
            .unwrap()
    }

    #[test]
    fn samples_of_one_law_cannot_be_told_apart() {
        let reference: Vec<Vec<f64>> = (0..5).map(|seed| even(seed, 3_000)).collect();
        let current: Vec<Vec<f64>> = (10..15).map(|seed| even(seed, 3_000)).collect();
        let found = separate(&reference, &current);
        assert!((0.47..0.53).contains(&found.auc), "{found:?}");
        assert!(found.interval.low < 0.5, "{found:?}");
    }

    #[test]
    fn a_feature_that_moved_is_named() {
        let reference: Vec<Vec<f64>> = (0..4).map(|seed| even(seed, 2_000)).collect();
        let mut current: Vec<Vec<f64>> = (10..14).map(|seed| even(seed, 2_000)).collect();
        for value in &mut current[2] {
            *value += 0.3;
        }
        let found = separate(&reference, &current);
        assert!(found.interval.low > 0.6, "{found:?}");
        assert!(found.importance[2] > 0.7, "{found:?}");
        assert!((found.importance.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn features_that_no_longer_move_together_are_seen_though_each_is_as_it_was() {
        let (first, noise) = (even(1, 3_000), even(2, 3_000));
        let together: Vec<f64> = first.iter().zip(&noise).map(|(a, b)| 0.8 * a + 0.2 * b).collect();
        let mut apart = together.clone();
        // The same values, in another order.
        apart.rotate_left(1_234);
        let found = separate(&[first.clone(), together], &[first, apart]);
        assert!(found.interval.low > 0.6, "{found:?}");
    }

    #[test]
    fn levels_missing_values_and_constants_are_read() {
        let names = ["chip", "online", "mail"].map(str::to_owned);
        let codes: Vec<u32> = (0..900).map(|row| (spread(row) % 4) as u32).collect();
        let moved: Vec<u32> = (0..900).map(|row| (spread(row) % 2) as u32).collect();
        let (constant, missing) = (vec![1.0; 900], vec![f64::NAN; 900]);
        let [before, now] = [&codes, &moved].map(|codes| {
            [
                Values::Levels {
                    codes,
                    levels: &names,
                },
                Values::Numbers(&constant),
                Values::Numbers(&missing),
            ]
        });
        let classifier = DomainClassifier::default();
        let found = classifier.separate(&before, &now).unwrap();
        assert!(found.interval.low > 0.65, "{found:?}");
        assert_eq!(found.importance, [1.0, 0.0, 0.0]);
        let same = classifier.separate(&before[1..], &now[1..]).unwrap();
        assert_eq!((same.auc, same.importance), (0.5, vec![0.0, 0.0]));
    }

    #[test]
    fn what_cannot_be_compared_says_why() {
        fn of(values: &[f64]) -> [Values<'_>; 1] {
            [Values::Numbers(values)]
        }
        let (few, many) = ([0.0; 10], [0.0; 300]);
        let classifier = DomainClassifier::default();
        assert_eq!(
            classifier.separate(&of(&many), &of(&few)),
            Err(Unusable::TooFewValues {
                sample: Sample::Current,
                values: 10,
                min: ROWS_MIN
            })
        );
        let two = [Values::Numbers(&many), Values::Numbers(&many)];
        assert_eq!(classifier.separate(&of(&many), &two), Err(Unusable::BinsDiffer));
        let (codes, levels) = ([0; 300], ["chip".to_owned()]);
        let level = [Values::Levels {
            codes: &codes,
            levels: &levels,
        }];
        assert_eq!(classifier.separate(&of(&many), &level), Err(Unusable::BinsDiffer));
    }
}
