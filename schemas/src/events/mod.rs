//! One file per event. Past tense, unit and range on every number, publisher and readers named.

mod alert;
mod drift_check_requested;
mod drift_checked;
mod drift_detected;
mod model_promoted;
mod model_trained;
mod model_validated;
mod promotion_refused;
mod retrain_asked;
mod retrain_declined;
mod retrain_requested;
mod rules;
mod training_failed;
mod training_started;

pub use alert::{AlertFailed, AlertSent, Channel};
pub use drift_check_requested::DriftCheckRequested;
pub use drift_checked::{
    DriftChecked, DriftKind, EstimatedPerformance, Metric, NotMeasured, PredictionDrift, Verdict,
};
pub use drift_detected::{
    ConceptDrift, DriftDetected, DriftSeverity, FeatureDrift, LevelShift, SegmentDrift, TargetDrift,
};
pub use model_promoted::{ModelPromoted, PromotionKind};
pub use model_trained::{Artifact, ModelTrained, ReportedMetric};
pub use model_validated::{
    Confusion, Interval, MetricEstimate, ModelValidated, ScoreCounts, ValidationGate, ValidationVerdict,
};
pub use promotion_refused::{PromotionRefusal, PromotionRefused};
pub use retrain_asked::RetrainAsked;
pub use retrain_declined::{DeclineReason, RetrainDeclined};
pub use retrain_requested::{Priority, RetrainRequested, TriggerKind};
pub use rules::{Counterfactual, RuleOutcome, RuleResult};
pub use training_failed::{TrainingFailed, TrainingFailure};
pub use training_started::TrainingStarted;
