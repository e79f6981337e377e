//! What is measured, and from where on it counts.

use drift_stats::budget::Repetition;
use schemas::events::DriftKind;

/// What is measured. A new metric is a variant here, and its threshold in [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricName {
    /// Population stability index of a feature.
    Psi,
    /// Mean index over the features, by their weights ([`Aggregate::Mean`]).
    PsiMean,
    /// Share of the features that exceed, by their weights ([`Aggregate::ShareOfFeatures`]).
    DriftingShare,
    /// Relative change of the fraud rate.
    FraudRateChange,
    /// Validated recall less realised recall.
    RecallDrop,
    /// Validated precision less realised precision.
    PrecisionDrop,
}

impl MetricName {
    /// The word used in events, tables and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Psi => "psi",
            Self::PsiMean => "psi_mean",
            Self::DriftingShare => "drifting_share",
            Self::FraudRateChange => "fraud_rate_change",
            Self::RecallDrop => "recall_drop",
            Self::PrecisionDrop => "precision_drop",
        }
    }

    /// The kind of drift it tells of.
    pub const fn kind(self) -> DriftKind {
        match self {
            Self::Psi | Self::PsiMean | Self::DriftingShare => DriftKind::Data,
            Self::FraudRateChange => DriftKind::Target,
            Self::RecallDrop | Self::PrecisionDrop => DriftKind::Concept,
        }
    }
}

/// Thresholds, and how much evidence they need.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// PSI from which people are told that a feature moved farther than chance explains, though nothing is retrained for it; at
    /// `data_threshold` or above nobody is.
    pub data_tell: f64,
    /// PSI from which data drift is meant.
    pub data_threshold: f64,
    /// PSI from which it is severe.
    pub data_threshold_high: f64,
    /// How features make the model's data-drift value.
    pub aggregate: Aggregate,
    /// With [`Aggregate::ShareOfFeatures`]: share of drifting features from which it is drift.
    pub share_threshold: f64,
    /// Relative change of the fraud rate.
    pub target_threshold: f64,
    /// Drop of recall.
    pub recall_threshold: f64,
    /// Drop of precision.
    pub precision_threshold: f64,
    /// Rows that a window needs.
    pub rows_min: u64,
    /// Frauds, or flagged rows, that a realised rate needs.
    pub frauds_min: u64,
    /// Share of its threshold below which a metric that exceeded is over, 0 to 1; 1 is the threshold itself.
    pub clear: f64,
    /// Checks in a row in which a metric must exceed before it counts, 1 or more.
    pub consecutive: u32,
    /// How much evidence is asked for.
    pub evidence: Evidence,
}

/// Probabilities, each above 0 and at most a half, that without drift a check finds more than its noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// In any feature.
    pub data: f64,
    /// In the fraud rate, up or down.
    pub target: f64,
    /// In recall, and the same in precision: downwards.
    pub concept: f64,
}

impl Evidence {
    /// For a single comparison: a rate of false alarms for features and for the fraud rate, and the two-sided confidence of intervals
    /// of recall and precision.
    pub const fn once(false_alarm_rate: f64, confidence: f64) -> Self {
        Self {
            data: false_alarm_rate,
            target: false_alarm_rate,
            concept: (1.0 - confidence) / 2.0,
        }
    }

    /// For checks that are repeated: at most `alarms` of them without drift in the time in which there are `checks`, a third for each
    /// kind of drift. `in_window` says how many checks look at one and the same row: of features, of labels.
    pub fn within(alarms: f64, checks: f64, features_in_window: f64, labels_in_window: [f64; 2]) -> Self {
        let share = alarms / 3.0;
        let level = |alarms, in_window| Repetition { checks, in_window }.level(alarms);
        Self {
            data: level(share, features_in_window),
            // Up and down; recall and precision.
            target: 2.0 * level(share / 2.0, labels_in_window[0]),
            concept: level(share / 2.0, labels_in_window[1]),
        }
    }

    /// Two-sided confidence of an interval whose lower end is as sure as `concept` asks for.
    pub fn confidence(self) -> f64 {
        1.0 - 2.0 * self.concept
    }
}

/// How features make the model's data-drift value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// The largest PSI.
    Max,
    /// The mean PSI.
    Mean,
    /// The share of features whose PSI exceeds threshold and noise.
    ShareOfFeatures,
}

impl Limits {
    pub(super) const fn threshold(&self, name: MetricName) -> f64 {
        match name {
            MetricName::Psi | MetricName::PsiMean => self.data_threshold,
            MetricName::DriftingShare => self.share_threshold,
            MetricName::FraudRateChange => self.target_threshold,
            MetricName::RecallDrop => self.recall_threshold,
            MetricName::PrecisionDrop => self.precision_threshold,
        }
    }
}
