//! Counters and gauges of a service, in Prometheus' text format.
//!
//! Every exported name stands in this file or in a service's `metrics.rs`, so that dashboards and alert
//! rules can be checked against the code.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// How often long work says that it is alive.
pub(crate) const BEAT: Duration = Duration::from_secs(10);

/// Events handled, by subject and outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    /// NATS subject.
    pub subject: String,
    /// `done`, `duplicate`, `parked`, `foreign`, `again` or `unknown`.
    pub outcome: String,
}

/// Events by subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SubjectLabels {
    /// NATS subject.
    pub subject: String,
}

/// Parked messages by class.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClassLabels {
    /// Dead-letter class.
    pub class: String,
}

/// What every service counts, and a registry for its own numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    beats: Arc<Mutex<HashMap<&'static str, Instant>>>,
    last_fetch: Arc<Mutex<Option<Instant>>>,
    /// Events published by the relay.
    pub published: Counter,
    events: Family<EventLabels, Counter>,
    seconds: Family<SubjectLabels, Histogram>,
    dead: Family<ClassLabels, Counter>,
    /// Outbox rows that are not published.
    pub outbox_unpublished: Gauge,
    /// Outbox rows that the broker can never take.
    pub outbox_failed: Gauge,
    /// Seconds that this host's clock is ahead of PostgreSQL's; nothing is decided by it, and people read it in logs and events.
    pub clock_offset: Gauge<f64, AtomicU64>,
    /// Age of the oldest unpublished row, seconds: the number to page on.
    pub outbox_oldest_age: Gauge<f64, AtomicU64>,
    /// Parked messages that nobody has dealt with.
    pub dead_letters: Gauge,
    /// Published events without the receipts of all their readers.
    pub outbox_unconfirmed: Gauge,
    /// Rows of the event log that have no place in its chain yet.
    pub event_log_unsealed: Gauge,
    /// Advisories of the broker that must not be, count.
    pub advisories: Gauge,
    /// Restarts of the broker that were noticed.
    pub epoch_changes: Counter,
    /// Acknowledged events that the broker no longer had.
    pub lost: Counter,
    /// Events that the sweep offered again.
    pub reoffered: Counter,
}

impl Metrics {
    /// A registry whose names carry the label `service`.
    pub fn new(service: &'static str) -> Self {
        let mut registry = Registry::with_labels(std::iter::once(("service".into(), service.into())));
        let published = Counter::default();
        let events = Family::<EventLabels, Counter>::default();
        let seconds = Family::<SubjectLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 4.0, 9))
        });
        let dead = Family::<ClassLabels, Counter>::default();
        let (outbox_unpublished, outbox_failed) = (Gauge::default(), Gauge::default());
        let outbox_oldest_age = Gauge::<f64, AtomicU64>::default();
        let clock_offset = Gauge::<f64, AtomicU64>::default();
        let dead_letters = Gauge::default();
        registry.register(
            "vigie_events_published",
            "Events published after their transaction",
            published.clone(),
        );
        registry.register(
            "vigie_events_handled",
            "Deliveries by subject and outcome",
            events.clone(),
        );
        registry.register(
            "vigie_event_handle_seconds",
            "Time from delivery to answer",
            seconds.clone(),
        );
        registry.register(
            "vigie_messages_parked",
            "Messages parked as dead letters, by class",
            dead.clone(),
        );
        registry.register(
            "vigie_outbox_unpublished",
            "Outbox rows waiting for the broker",
            outbox_unpublished.clone(),
        );
        registry.register(
            "vigie_outbox_failed",
            "Outbox rows that the broker can never take",
            outbox_failed.clone(),
        );
        registry.register(
            "vigie_outbox_oldest_age_seconds",
            "Age of the oldest outbox row waiting for the broker",
            outbox_oldest_age.clone(),
        );
        registry.register(
            "vigie_clock_offset_seconds",
            "Seconds that the clock of this host is ahead of PostgreSQL's",
            clock_offset.clone(),
        );
        registry.register(
            "vigie_dead_letters",
            "Dead letters that nobody has dealt with",
            dead_letters.clone(),
        );
        let (outbox_unconfirmed, epoch_changes) = (Gauge::default(), Counter::default());
        let (lost, reoffered) = (Counter::default(), Counter::default());
        let event_log_unsealed = Gauge::default();
        let advisories = Gauge::default();
        registry.register(
            "vigie_advisories",
            "Advisories of the broker about messages that were given up; must be 0",
            advisories.clone(),
        );
        registry.register(
            "vigie_event_log_unsealed",
            "Rows of the event log that have no place in its chain yet",
            event_log_unsealed.clone(),
        );
        registry.register(
            "vigie_outbox_unconfirmed",
            "Published events without the receipts of all their readers",
            outbox_unconfirmed.clone(),
        );
        registry.register(
            "vigie_broker_epoch_changes",
            "Restarts of the broker that were noticed",
            epoch_changes.clone(),
        );
        registry.register(
            "vigie_broker_lost_events",
            "Acknowledged events that the broker no longer had",
            lost.clone(),
        );
        registry.register(
            "vigie_events_reoffered",
            "Events without a receipt that were offered again",
            reoffered.clone(),
        );
        Self {
            registry: Arc::new(Mutex::new(registry)),
            beats: Arc::default(),
            last_fetch: Arc::default(),
            published,
            events,
            seconds,
            dead,
            outbox_unpublished,
            outbox_failed,
            outbox_unconfirmed,
            event_log_unsealed,
            advisories,
            epoch_changes,
            lost,
            reoffered,
            outbox_oldest_age,
            clock_offset,
            dead_letters,
        }
    }

    /// Registers a service's own numbers.
    pub fn register(&self, with: impl FnOnce(&mut Registry)) {
        with(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts a delivery.
    pub(crate) fn processed(&self, subject: &str, outcome: &str, took: Duration) {
        self.events
            .get_or_create(&EventLabels {
                subject: subject.to_owned(),
                outcome: outcome.to_owned(),
            })
            .inc();
        self.seconds
            .get_or_create(&SubjectLabels {
                subject: subject.to_owned(),
            })
            .observe(took.as_secs_f64());
    }

    /// Counts a parked message.
    pub(crate) fn parked(&self, class: &str) {
        self.dead
            .get_or_create(&ClassLabels {
                class: class.to_owned(),
            })
            .inc();
    }

    /// Says that a loop of this service is alive.
    pub fn beat(&self, name: &'static str) {
        self.beats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, Instant::now());
    }

    /// Works while saying so: reading a large table may take longer than a loop may be silent. Work that blocks its thread
    /// is not seen as alive.
    pub async fn beating<F: Future>(&self, name: &'static str, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        loop {
            self.beat(name);
            if let Ok(output) = tokio::time::timeout(BEAT, work.as_mut()).await {
                return output;
            }
        }
    }

    /// Loops that have not said so for longer than `age`.
    pub(crate) fn silent(&self, age: Duration) -> Vec<&'static str> {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats
            .iter()
            .filter(|(_, at)| at.elapsed() > age)
            .map(|(name, _)| *name)
            .collect()
    }

    /// Says that the broker answered a fetch, with a message or without.
    pub(crate) fn fetch_answered(&self) {
        *self.last_fetch.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Time since the broker answered a fetch.
    pub(crate) fn fetch_age(&self) -> Option<Duration> {
        self.last_fetch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .map(|at| at.elapsed())
    }

    /// Everything in OpenMetrics text.
    ///
    /// # Errors
    /// Only if formatting fails, which would be a defect.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(
            &mut text,
            &self.registry.lock().unwrap_or_else(PoisonError::into_inner),
        )?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn long_work_is_no_silence_and_its_end_is_not_waited_for() {
        let metrics = Metrics::new("toy");
        metrics.beat("slots");
        let watch = metrics.clone();
        let work = async {
            tokio::time::sleep(BEAT * 30).await;
            // As it is at the end of five minutes: the last beat is young.
            watch.silent(Duration::from_secs(1))
        };
        assert!(metrics.beating("slots", work).await.is_empty());
    }

    #[test]
    fn a_loop_is_silent_once_its_last_beat_is_older_than_allowed() {
        let metrics = Metrics::new("toy");
        assert!(
            metrics.silent(Duration::ZERO).is_empty(),
            "nothing that never began is missed"
        );
        metrics.beat("relay");
        assert!(metrics.silent(Duration::from_secs(3600)).is_empty());
        while metrics.silent(Duration::ZERO).is_empty() {
            std::hint::spin_loop();
        }
        assert_eq!(metrics.silent(Duration::ZERO), ["relay"]);
    }

    #[test]
    fn a_hostile_label_stays_in_its_line() {
        // No metric of ours: the checks of panels and rules do not look for it.
        const NAMED: &str = "named";
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct Label {
            model: String,
        }
        let metrics = Metrics::new("toy");
        let family = Family::<Label, Counter>::default();
        metrics.register(|registry| Registry::register(registry, NAMED, "Names", family.clone()));
        for name in local_stack::hostile::NAMES {
            let model = (*name).to_owned();
            family.get_or_create(&Label { model }).inc();
        }
        let text = metrics.render().unwrap();
        let count = |part: &str| text.split('\n').filter(|line| line.starts_with(part)).count();
        assert_eq!(count("named_total{"), local_stack::hostile::NAMES.len());
        assert_eq!(
            text.split('\n').count() - count("named_total{"),
            Metrics::new("toy").render().unwrap().split('\n').count() + 2
        );
        for name in local_stack::hostile::NAMES {
            let escaped = name
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            assert!(text.contains(&format!("model=\"{escaped}\"}} 1\n")), "{name:?}");
        }
    }
}
