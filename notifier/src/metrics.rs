//! What the notifier counts, under the names that dashboards use.

use std::sync::atomic::AtomicU64;

use chassis::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// By channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChannelLabels {
    /// `email` or `slack`.
    pub channel: &'static str,
}

/// The notifier's numbers.
#[derive(Debug, Clone, Default)]
pub struct AlertMetrics {
    /// Alerts that were handed over.
    pub sent: Family<ChannelLabels, Counter>,
    /// Alerts that were given up.
    pub failed: Family<ChannelLabels, Counter>,
    /// Attempts that failed and are repeated.
    pub repeated: Family<ChannelLabels, Counter>,
    /// Alerts neither sent nor given up.
    pub waiting: Family<ChannelLabels, Gauge>,
    /// Age of the oldest of them, seconds.
    pub oldest_age: Family<ChannelLabels, Gauge<f64, AtomicU64>>,
    /// 1 while a way out counts as away.
    pub away: Family<ChannelLabels, Gauge>,
}

impl AlertMetrics {
    /// Registers the numbers.
    pub fn new(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register(|registry| {
            registry.register(
                "vigie_alerts_sent",
                "Alerts handed over, by channel",
                own.sent.clone(),
            );
            registry.register(
                "vigie_alerts_failed",
                "Alerts given up, by channel",
                own.failed.clone(),
            );
            registry.register(
                "vigie_alert_attempts_repeated",
                "Failed attempts that are repeated",
                own.repeated.clone(),
            );
            registry.register(
                "vigie_alerts_waiting",
                "Alerts neither sent nor given up",
                own.waiting.clone(),
            );
            registry.register(
                "vigie_alerts_oldest_age_seconds",
                "Age of the oldest alert neither sent nor given up",
                own.oldest_age.clone(),
            );
            registry.register(
                "vigie_alert_outlet_away",
                "1 while the mail server or the webhook counts as away and is asked now and then only",
                own.away.clone(),
            );
        });
        own
    }
}
