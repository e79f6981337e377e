//! Numbers the validator exports.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// One validation's labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ValidationLabels {
    /// The model.
    pub model: String,
    /// `passed` or `failed`.
    pub verdict: String,
}

/// What the validator counts.
#[derive(Debug, Clone, Default)]
pub struct ValidatorMetrics {
    /// Validations by model and verdict.
    pub validations: Family<ValidationLabels, Counter>,
}

impl ValidatorMetrics {
    /// Registers everything with the service's registry.
    pub fn register(metrics: &chassis::metrics::Metrics) -> Self {
        let own = Self::default();
        metrics.register(|registry| {
            registry.register(
                "vigie_validations",
                "Validations by model and verdict",
                own.validations.clone(),
            );
        });
        own
    }
}
