//! Changes whose size is known, planted in one feature of a window.

use drift_monitor::reference::Reference;
use drift_stats::binning::FeatureBins;
use rand::Rng as _;
use rand_chacha::ChaCha12Rng;

use super::sample::{Rows, RowsOf, Sample};

/// Distinct values or points up to which a number counts as a code, which cannot be shifted.
const CODES_MAX: usize = 20;

/// What is planted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Every number grows by so many standard deviations of the reference.
    Shift {
        /// Standard deviations.
        by: f64,
        /// One of them, in the feature's unit.
        deviation: f64,
    },
    /// Every number moves away from the mean by a factor.
    Spread {
        /// The factor.
        by: f64,
        /// The reference's mean.
        mean: f64,
    },
    /// A share of the values goes missing.
    Missing {
        /// The share.
        share: f64,
    },
    /// Rows of other levels get the most frequent one, so that it grows by a share of itself.
    TopLevel {
        /// The share of itself.
        by: f64,
        /// Its share in the reference.
        share: f64,
        /// The level.
        level: usize,
    },
}

impl Kind {
    /// What is planted, in words.
    pub fn words(&self) -> String {
        match self {
            Self::Shift { by, .. } => format!("mean + {by} sd"),
            Self::Spread { by, .. } => format!("spread x {by}"),
            Self::Missing { share } => format!("{:.0} % go missing", share * 100.0),
            Self::TopLevel { by, .. } => format!("top level + {:.0} %", by * 100.0),
        }
    }
}

/// A change in a feature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Position of the feature.
    pub feature: usize,
    /// What happens to it.
    pub kind: Kind,
}

/// Every change that can be planted in these features.
pub fn changes(sample: &Sample, reference: &Reference) -> Vec<Change> {
    let mut all = Vec::new();
    for (feature, bins) in reference.bins.iter().enumerate() {
        let mut add = |kind| all.push(Change { feature, kind });
        let profile = &reference.profile.features()[feature];
        match (bins, profile.moments()) {
            (FeatureBins::Numeric(bins), Some(moments)) => {
                let (Some(mean), Some(deviation)) = (moments.mean(), moments.deviation()) else {
                    continue;
                };
                let code = bins.edges().is_empty() && bins.points().len() <= CODES_MAX;
                if deviation > 0.0 && !code {
                    add(Kind::Shift { by: 0.1, deviation });
                    add(Kind::Shift { by: 0.5, deviation });
                    add(Kind::Spread { by: 1.3, mean });
                }
            }
            (FeatureBins::Category(bins), _) => {
                let Some(top) = bins.levels().first() else {
                    continue;
                };
                let count = profile.counts()[bins.bin_of(top)];
                let share = count as f64 / reference.profile.rows().max(1) as f64;
                if let Some(level) = sample.level(feature, top).filter(|_| share < 0.8) {
                    add(Kind::TopLevel {
                        by: 0.2,
                        share,
                        level,
                    });
                }
            }
            (FeatureBins::Numeric(_), None) => {}
        }
        add(Kind::Missing { share: 0.05 });
    }
    all
}

impl Change {
    /// Changes a window.
    pub fn plant(&self, rows: &mut Rows, draw: &mut ChaCha12Rng) {
        match (rows.column(self.feature), self.kind) {
            (RowsOf::Numbers(numbers), Kind::Shift { by, deviation }) => {
                for number in numbers {
                    *number += by * deviation;
                }
            }
            (RowsOf::Numbers(numbers), Kind::Spread { by, mean }) => {
                for number in numbers {
                    *number = mean + (*number - mean) * by;
                }
            }
            (RowsOf::Numbers(numbers), Kind::Missing { share }) => {
                for number in numbers {
                    if draw.random::<f64>() < share {
                        *number = f64::NAN;
                    }
                }
            }
            (RowsOf::Levels { codes, .. }, Kind::Missing { share }) => {
                for code in codes {
                    if draw.random::<f64>() < share {
                        *code = u32::MAX;
                    }
                }
            }
            (RowsOf::Levels { codes, .. }, Kind::TopLevel { by, share, level }) => {
                let chance = (by * share / (1.0 - share)).min(1.0);
                for code in codes {
                    if *code as usize != level && draw.random::<f64>() < chance {
                        *code = level as u32;
                    }
                }
            }
            // Changes are made for what a feature is.
            (RowsOf::Numbers(_), Kind::TopLevel { .. })
            | (RowsOf::Levels { .. }, Kind::Shift { .. } | Kind::Spread { .. }) => {}
        }
    }
}
