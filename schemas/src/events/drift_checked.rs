//! `drift.checked.v1`, published by drift-monitor; read by notifier (verdict `unknown`) and by whoever audits.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Interval;
use crate::{CheckId, Finite, ModelVersion, Share, Window};

/// A drift check finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct DriftChecked {
    /// This check; the same model and instant give the same id.
    pub check_id: CheckId,
    /// The instant of the check, UTC.
    pub as_of: DateTime<Utc>,
    /// The champion whose reference was compared with; none before the first promotion.
    pub champion: Option<ModelVersion>,
    /// The rows the reference was taken from (the champion's training window).
    pub reference_window: Option<Window>,
    /// The current rows of data and target drift.
    pub window: Window,
    /// Rows in `window`, count.
    pub rows: u64,
    /// Rows in `window` whose label was known at `as_of`, count.
    pub labelled_rows: u64,
    /// The conclusion.
    pub verdict: Verdict,
    /// The verdict of the previous check of this model, if there was one.
    pub previous_verdict: Option<Verdict>,
    /// When the verdict is `unknown`: the first check of the unbroken run that could not look for the same reasons, with the
    /// same champion.
    pub unknown_since: Option<DateTime<Utc>>,
    /// Kinds that exceeded their threshold beyond what the sample size explains.
    pub drifted: Vec<DriftKind>,
    /// Kinds that could not be measured, and why; never silently read as "no drift".
    pub not_measured: Vec<NotMeasured>,
    /// Every metric that was measured.
    pub metrics: Vec<Metric>,
    /// How well the champion does on the newest rows by their scores alone, before their labels are known; judged by nobody. None when
    /// the champion's validation did not count its scores, or the rows are too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated: Option<EstimatedPerformance>,
    /// How the scores of the newest rows lie beside those of the champion's validation; judged by nobody. None where `estimated` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<PredictionDrift>,
}

/// Confidence-based performance estimation: recall and precision of rows by their scores, if a score means what it meant at validation.
/// Blind where it does not; and where fraud becomes rarer, estimated recall falls though true recall does not, because the rows that are
/// let through count for as many missed frauds as before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct EstimatedPerformance {
    /// The rows: those in the window that this version scored, count.
    pub rows: u64,
    /// Frauds among them, found or missed, as estimated; a number with fractions, 0 or more.
    #[cfg_attr(feature = "generate", schemars(extend("minimum" = 0)))]
    pub frauds: Finite,
    /// Share of these that is found; none when there are none.
    pub recall: Option<Share>,
    /// Share of the flagged rows that is fraud; none when no row is flagged.
    pub precision: Option<Share>,
    /// Predictive interval of `recall`: realised recall of these rows lies in it with probability `level` once their labels are known,
    /// if a score means what it meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall_interval: Option<Interval>,
    /// Predictive interval of `precision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision_interval: Option<Interval>,
}

/// Prediction drift: the scores of the rows of a window beside those of the rows that the version was validated on, whatever their labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct PredictionDrift {
    /// Population stability index over at most ten ranges of the score, none of which lies on both sides of the operating threshold;
    /// dimensionless, 0 or more.
    #[cfg_attr(feature = "generate", schemars(extend("minimum" = 0)))]
    pub psi: Finite,
    /// What the number of rows alone explains of `psi`, same scale.
    #[cfg_attr(feature = "generate", schemars(extend("minimum" = 0)))]
    pub noise: Finite,
    /// Share of the validation's rows that the version flags.
    pub validated_flagged_share: Share,
    /// Share of the window's rows that it flags.
    pub flagged_share: Share,
    /// Two-sided p-value of the test that both shares are the same (Fisher's exact test).
    pub p_value: Share,
    /// Whether `psi` or the change of the share is more than the number of rows explains, at the level of one check.
    pub beyond_chance: bool,
}

/// The conclusion of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub enum Verdict {
    /// Looked, and nothing moved beyond its threshold and its noise.
    Stable,
    /// At least one kind of drift.
    Drifted,
    /// Could not look: no rows, too few rows, source down, a column missing. Never a kind of "stable".
    Unknown,
}

/// What moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub enum DriftKind {
    /// The distribution of a feature.
    Data,
    /// The fraud rate.
    Target,
    /// The relation between features and fraud, seen as lost recall.
    Concept,
}

impl DriftKind {
    /// The name used in tables and texts, e.g. `data_drift`.
    pub const fn metric_type(self) -> &'static str {
        match self {
            Self::Data => "data_drift",
            Self::Target => "target_drift",
            Self::Concept => "concept_drift",
        }
    }
}

/// A kind of drift that could not be measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct NotMeasured {
    /// The kind.
    pub kind: DriftKind,
    /// Stable word for the cause, e.g. `too_few_rows`, `labels_not_ripe`, `source_unreachable`, `column_missing`, `no_champion`.
    pub reason: String,
    /// One sentence with the numbers.
    pub detail: String,
    /// Whether this makes the verdict `unknown` (a wait that is expected, such as for labels, does not).
    pub blocks_verdict: bool,
}

/// One number of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct Metric {
    /// What it measures.
    pub kind: DriftKind,
    /// Stable name, e.g. `psi`, `psi_mean`, `fraud_rate_change`, `recall_drop`.
    pub name: String,
    /// The feature it is about; none for target and concept.
    pub feature: Option<String>,
    /// The value, on the metric's own scale (PSI: dimensionless, from 0; fraud_rate_change: relative, e.g. 0.5 is +50 %; recall_drop: difference of two shares).
    pub value: Finite,
    /// The threshold in force, same scale as `value`; lower for a metric that exceeded in the check before.
    pub threshold: Finite,
    /// What the sample size alone explains within the budget of false alarms, same scale; exceeding needs more than this too.
    pub noise: Option<Finite>,
    /// Whether the value exceeds threshold and noise.
    pub exceeded: bool,
    /// Whether people are told of it though it may not exceed: it lies outside what chance and the reference's own unrest explain, and
    /// above the level from which they want to hear of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
    /// Checks in a row in which it exceeded or was told of, this one included; 0 when it did not. The settings say how many make a drift.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub in_a_row: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}
