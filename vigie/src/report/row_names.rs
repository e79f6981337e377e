//! Columns that name rows: every value is another, so that any two files differ in them, and nothing has moved.

use drift_stats::reference::LEVELS_KEPT_MAX;
use transactions::Column;

use super::columns::{Feature, Plan};
use super::document::LeftOut;

/// Rows from which values that are all different say something.
const ROWS_MIN: u64 = 100;

/// Looks at batches for columns that name rows.
#[derive(Debug)]
pub struct RowNames(Vec<Growing>);

/// Whether each number of a column is larger than the one before.
#[derive(Debug)]
struct Growing {
    last: f64,
    always: bool,
}

impl RowNames {
    /// Before the first batch of so many features.
    pub fn new(features: usize) -> Self {
        let fresh = || Growing {
            last: f64::NEG_INFINITY,
            always: true,
        };
        Self((0..features).map(|_| fresh()).collect())
    }

    /// Looks at a batch.
    pub fn look(&mut self, columns: &[Column]) {
        for (growing, column) in self.0.iter_mut().zip(columns) {
            for number in column.numbers().unwrap_or_default() {
                if !growing.always {
                    break;
                }
                // A missing one is not larger than any.
                growing.always = *number > growing.last;
                growing.last = *number;
            }
        }
    }

    /// Leaves columns that name rows out of a plan, unless the user named them; says which of its features stay.
    pub fn leave_out(&self, plan: &mut Plan, distinct: &[Option<usize>], rows: u64) -> Vec<bool> {
        let mut stays = Vec::new();
        let mut features = Vec::new();
        for ((feature, growing), distinct) in std::mem::take(&mut plan.features)
            .into_iter()
            .zip(&self.0)
            .zip(distinct)
        {
            let reason = reason(&feature, growing.always, *distinct, rows).filter(|_| !feature.named);
            stays.push(reason.is_none());
            match reason {
                None => features.push(feature),
                Some(reason) => plan.left_out.push(LeftOut {
                    column: feature.name,
                    reason: reason.to_owned(),
                }),
            }
        }
        plan.features = features;
        stays
    }
}

fn reason(feature: &Feature, growing: bool, distinct: Option<usize>, rows: u64) -> Option<&'static str> {
    if rows < ROWS_MIN {
        return None;
    }
    match distinct {
        Some(levels) if levels as u64 * 2 > rows || levels >= LEVELS_KEPT_MAX => Some(
            "looks like the name of a row: more than every second one is another; --feature compares it all the same",
        ),
        None if feature.whole && growing => {
            Some("looks like the number of a row: it only grows; --feature compares it all the same")
        }
        _ => None,
    }
}
