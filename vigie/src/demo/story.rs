//! The account on the terminal, as the events arrive: each line says when in the data, who, what and why.
//!
//! It listens like any plain subscriber; nothing here is needed for the demo to work.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use local_stack::Progress;
use schemas::events::{DeclineReason, DriftKind, DriftSeverity, Verdict};
use schemas::{Event, EventKind, Received};
use tokio::sync::mpsc;

use super::narrate;
use super::report::Report;

/// Tells the story on standard output, or keeps silent.
#[derive(Debug)]
pub struct Story {
    silent: bool,
    events: Option<mpsc::UnboundedReceiver<Received>>,
    client: Option<async_nats::Client>,
    last_verdict: Option<Verdict>,
    last_severity: Option<DriftSeverity>,
    /// Kinds of drift that were told since the last promotion.
    told_kinds: BTreeSet<DriftKind>,
    last_decline: Option<DeclineReason>,
    held_back: u64,
    checks: BTreeMap<&'static str, u64>,
    days: u32,
    status_shown: bool,
}

impl Story {
    /// A story for people.
    pub fn aloud() -> Self {
        Self::new(false)
    }

    /// A story that nobody hears, for tests and for JSON output.
    pub fn silent() -> Self {
        Self::new(true)
    }

    fn new(silent: bool) -> Self {
        Self {
            silent,
            events: None,
            client: None,
            last_verdict: None,
            last_severity: None,
            told_kinds: BTreeSet::new(),
            last_decline: None,
            held_back: 0,
            checks: BTreeMap::new(),
            days: 0,
            status_shown: false,
        }
    }

    /// Where the private servers say what they are doing.
    pub fn progress(&self) -> Progress {
        if self.silent {
            Progress::silent()
        } else {
            Progress::default()
        }
    }

    /// Subscribes to everything, as `nats sub` would.
    pub(super) async fn listen(&mut self, nats_url: &str) -> anyhow::Result<()> {
        let client = async_nats::connect(nats_url).await.context("listen to events")?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut roots: Vec<&str> = EventKind::ALL
            .iter()
            .filter_map(|kind| kind.subject().split('.').next())
            .collect();
        roots.sort_unstable();
        roots.dedup();
        for root in roots {
            let mut subscription = client.subscribe(format!("{root}.>")).await?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while let Some(message) = subscription.next().await {
                    if let Ok(received) = crate::operator::decode(&message)
                        && sender.send(received).is_err()
                    {
                        break;
                    }
                }
            });
        }
        client.flush().await?;
        self.client = Some(client);
        self.events = Some(receiver);
        Ok(())
    }

    /// Tells what has arrived so far.
    pub(super) fn keep_up(&mut self) {
        while let Some(received) = self.events.as_mut().and_then(|events| events.try_recv().ok()) {
            self.tell(&received);
        }
    }

    /// Tells what is still on its way.
    pub(super) async fn catch_up(&mut self) {
        if let Some(client) = &self.client
            && let Err(error) = client.flush().await
        {
            tracing::debug!("the story may lack its last lines: {error}");
        }
        while let Some(events) = &mut self.events {
            match tokio::time::timeout(std::time::Duration::from_millis(300), events.recv()).await {
                Ok(Some(received)) => self.tell(&received),
                Ok(None) | Err(_) => break,
            }
        }
        self.week();
    }

    /// A new day of data begins.
    pub(super) fn day(&mut self, midnight: DateTime<Utc>) {
        self.keep_up();
        if self.days > 0 && self.days.is_multiple_of(7) {
            self.week();
        }
        self.days += 1;
        if !self.silent && std::io::stderr().is_terminal() {
            eprint!("\r  day {:>3}  {}  ", self.days, midnight.format("%Y-%m-%d"));
            self.status_shown = true;
            let _flushed = std::io::stderr().flush();
        }
    }

    fn week(&mut self) {
        if !self.checks.is_empty() {
            let counts: Vec<String> = self
                .checks
                .iter()
                .map(|(word, count)| format!("{count} {word}"))
                .collect();
            self.say(&format!(
                "{:<16} … day {}: checks so far this week: {}",
                "",
                self.days,
                counts.join(", ")
            ));
            self.checks.clear();
        }
    }

    fn tell(&mut self, received: &Received) {
        match &received.event {
            Event::DriftChecked(checked) => {
                let word = match checked.verdict {
                    Verdict::Stable => "stable",
                    Verdict::Drifted => "drifted",
                    Verdict::Unknown => "unknown",
                };
                *self.checks.entry(word).or_default() += 1;
                let changed = self.last_verdict.replace(checked.verdict) != Some(checked.verdict);
                // A drift tells its own story.
                if changed && checked.verdict != Verdict::Drifted {
                    self.forget_drift();
                    self.line(received, checked.as_of);
                }
            }
            Event::DriftDetected(drift) => {
                let changed = self.last_severity.replace(drift.severity) != Some(drift.severity);
                let kinds = self.told_kinds.len();
                self.told_kinds.extend(&drift.kinds);
                if changed || drift.consecutive == 1 || self.told_kinds.len() > kinds {
                    self.line(received, drift.as_of);
                }
            }
            Event::RetrainDeclined(declined) => {
                if self.last_decline.replace(declined.reason) == Some(declined.reason) {
                    self.held_back += 1;
                } else {
                    self.held_back_line();
                    self.line(received, declined.as_of);
                }
            }
            Event::RetrainRequested(requested) => {
                self.held_back_line();
                self.last_decline = None;
                self.line(received, requested.as_of);
            }
            Event::TrainingStarted(started) => self.line(received, started.as_of),
            Event::TrainingFailed(failed) => self.line(received, failed.as_of),
            Event::ModelTrained(trained) => self.line(received, trained.as_of),
            Event::ModelValidated(validated) => self.line(received, validated.as_of),
            Event::ModelPromoted(promoted) => {
                self.forget_drift();
                self.line(received, promoted.as_of);
            }
            Event::PromotionRefused(refused) => self.line(received, refused.as_of),
            Event::DriftCheckRequested(asked) => self.line(received, asked.as_of),
            Event::RetrainAsked(asked) => self.line(received, asked.as_of),
            Event::AlertSent(_) | Event::AlertFailed(_) => {
                self.say(&format!(
                    "{:<16} {:<16} {:<18} {}",
                    "",
                    service_of(received),
                    received.attributes.kind,
                    narrate::sentence(&received.event)
                ));
            }
        }
    }

    /// What comes next is news again.
    fn forget_drift(&mut self) {
        self.last_severity = None;
        self.told_kinds.clear();
    }

    fn held_back_line(&mut self) {
        if self.held_back > 0 {
            self.say(&format!(
                "{:<16} {:<16} … and {} more triggers declined for the same reason",
                "", "retrain-decider", self.held_back
            ));
            self.held_back = 0;
        }
    }

    fn line(&mut self, received: &Received, as_of: DateTime<Utc>) {
        self.say(&format!(
            "{} {:<16} {:<18} {}",
            as_of.format("%Y-%m-%d %H:%M"),
            service_of(received),
            received.attributes.kind,
            narrate::sentence(&received.event)
        ));
    }

    /// Prints a line of the story.
    pub fn say(&mut self, line: &str) {
        if self.silent {
            return;
        }
        if std::mem::take(&mut self.status_shown) {
            eprint!("\r{:<32}\r", "");
        }
        // Whoever listens may leave; the replay goes on and its report is kept.
        if let Err(error) = writeln!(std::io::stdout(), "{line}") {
            tracing::debug!("nobody hears the story: {error}");
            self.silent = true;
        }
    }

    /// The servers stay up: how to look around.
    pub(super) fn stay(&mut self, report: &Report) {
        self.say(&report.describe());
        self.say(&look_around(report));
        self.say("Servers and services keep running; Ctrl-C ends them.");
    }
}

/// How to look at the tables and how to subscribe.
pub fn look_around(report: &Report) -> String {
    format!(
        "\nLook at the tables:     psql '{}'\nSubscribe to events:    nats --server {} sub drift.detected   (or: vigie --config {} events tail)",
        report.database_url,
        report.nats_url,
        report.folder.join("vigie.toml").display()
    )
}

fn service_of(received: &Received) -> &str {
    received
        .attributes
        .source
        .strip_prefix(schemas::SOURCE_PREFIX)
        .unwrap_or(&received.attributes.source)
}
