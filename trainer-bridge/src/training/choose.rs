//! Which threshold turns scores into predictions.

use drift_stats::performance::{OperatingPoint, Ranking};

/// How the operating threshold is chosen on the threshold slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ThresholdRule {
    /// The largest F1.
    BestF1,
    /// The largest recall whose precision is at least this.
    BestRecall {
        /// 0 to 1.
        precision_min: f64,
    },
    /// The point that clears both limits by most: the largest smaller margin. Even when neither is reached, the
    /// point that misses them least.
    WidestMargin {
        /// Recall that validation will ask for, 0 to 1.
        recall_min: f64,
        /// Precision that validation will ask for, 0 to 1.
        precision_min: f64,
    },
}

impl ThresholdRule {
    /// The word in settings and notes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BestF1 => "best_f1",
            Self::BestRecall { .. } => "best_recall",
            Self::WidestMargin { .. } => "widest_margin",
        }
    }
}

/// The operating point of a rule, and the rule that gave it: where no threshold keeps the rule it is the largest F1, so
/// that the candidate is judged, and refused if need be, by the validator. `None` without fraud.
pub(super) fn operating_point(
    ranking: &Ranking,
    rule: ThresholdRule,
) -> Option<(OperatingPoint, ThresholdRule)> {
    let kept = by_rule(ranking, rule).map(|point| (point, rule));
    kept.or_else(|| {
        ranking
            .threshold_of_best_f1()
            .map(|point| (point, ThresholdRule::BestF1))
    })
}

fn by_rule(ranking: &Ranking, rule: ThresholdRule) -> Option<OperatingPoint> {
    match rule {
        ThresholdRule::BestF1 => ranking.threshold_of_best_f1(),
        ThresholdRule::BestRecall { precision_min } => ranking.threshold_of_best_recall(precision_min),
        ThresholdRule::WidestMargin {
            recall_min,
            precision_min,
        } => {
            let margin = |point: &OperatingPoint| {
                let recall = point.confusion.recall().value()? - recall_min;
                let precision = point.confusion.precision().value()? - precision_min;
                Some(recall.min(precision))
            };
            let with_margin = ranking
                .operating_points()
                .filter_map(|point| Some((margin(&point)?, point)));
            // Of equal margins the first from above: fewer alarms.
            with_margin
                .reduce(|best, next| if next.0 > best.0 { next } else { best })
                .map(|(_, point)| point)
        }
    }
}
