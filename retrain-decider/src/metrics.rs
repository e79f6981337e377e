//! Numbers the decider exports.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// One decision's labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DecisionLabels {
    /// The model.
    pub model: String,
    /// `drift`, `schedule`, `operator` or `training_ended`.
    pub trigger: String,
    /// `requested`, or the reason of the refusal.
    pub outcome: String,
}

/// What the decider counts.
#[derive(Debug, Clone, Default)]
pub struct DeciderMetrics {
    /// Decisions by model, trigger and outcome.
    pub decisions: Family<DecisionLabels, Counter>,
}

impl DeciderMetrics {
    /// Registers everything with the service's registry.
    pub fn register(metrics: &chassis::metrics::Metrics) -> Self {
        let own = Self::default();
        metrics.register(|registry| {
            registry.register(
                "vigie_decisions",
                "Decisions by model, trigger and outcome",
                own.decisions.clone(),
            );
        });
        own
    }
}
