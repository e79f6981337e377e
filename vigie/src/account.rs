//! A loop as it is on record, told to people: one line for each event, and under it what it stands on and who has it.

use std::cmp::Ordering;
use std::fmt::Write as _;

use chassis::audit::Entry;
use chrono::{DateTime, Utc};
use schemas::events::{DriftChecked, Metric, RuleOutcome, RuleResult};
use schemas::{Event, Received};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::demo::narrate;
use crate::output::one_line;

/// Metrics that are shown of a check in which nothing moved: those nearest to their thresholds.
const NEAREST_METRICS: usize = 3;
/// Most metrics that are shown of a check.
const METRICS_MAX: usize = 10;

/// A loop, oldest entry first.
#[derive(Debug, Serialize)]
pub struct Account {
    /// The event that began the loop.
    pub correlation_id: Uuid,
    /// The event that was asked for, if one was.
    pub event_id: Option<Uuid>,
    /// The models it is about: one, unless somebody made up an id.
    pub models: Vec<String>,
    /// Everything on record.
    pub entries: Vec<Told>,
}

/// An entry of the record.
#[derive(Debug, Serialize)]
pub struct Told {
    /// When it was recorded, UTC.
    pub at: DateTime<Utc>,
    /// In whose log, e.g. `drift-monitor`.
    pub service: String,
    /// `said`, `received`, `parked`, `redriven` or `discarded`.
    pub what: String,
    /// The event.
    pub event_id: Uuid,
    /// Its type, e.g. `vigie.drift.checked.v1`.
    pub event_type: String,
    /// Its direct cause.
    pub causation_id: Option<Uuid>,
    /// One sentence.
    pub summary: String,
    /// Row in the service's log.
    pub seq: i64,
    /// Place in the log's chain; none until it is sealed.
    pub link: Option<i64>,
    /// The trace, 32 hexadecimal digits.
    pub trace_id: Option<String>,
    /// Headers; who and why; class and reason.
    pub entry: Value,
    /// What was said.
    pub body: Option<Value>,
    #[serde(skip)]
    event: Option<Event>,
}

impl Account {
    /// Of the entries of one loop.
    pub fn new(correlation_id: Uuid, event_id: Option<Uuid>, entries: Vec<Entry>) -> Self {
        let mut models: Vec<String> = entries.iter().map(|entry| entry.model.clone()).collect();
        models.sort_unstable();
        models.dedup();
        Self {
            correlation_id,
            event_id,
            models,
            entries: entries.into_iter().map(Told::new).collect(),
        }
    }

    /// For people: each event where it was said, with its receipts under it.
    pub fn describe(&self) -> String {
        let mut events: Vec<Uuid> = Vec::new();
        for entry in &self.entries {
            if !events.contains(&entry.event_id) {
                events.push(entry.event_id);
            }
        }
        let mut text = format!(
            "loop {} of model {}: {} event{}",
            self.correlation_id,
            one_line(&self.models.join(", ")),
            events.len(),
            if events.len() == 1 { "" } else { "s" }
        );
        // Writing to a String cannot fail.
        if let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) {
            let _ = write!(text, ", {} to {}", day_and_time(first.at), day_and_time(last.at));
        }
        if let Some(trace) = self.entries.iter().find_map(|entry| entry.trace_id.as_deref()) {
            let _ = write!(text, " UTC, trace {trace}");
        }
        text.push('\n');
        for event in events {
            let about: Vec<&Told> = self
                .entries
                .iter()
                .filter(|entry| entry.event_id == event)
                .collect();
            text.push('\n');
            text.push_str(&paragraph(&about, self.event_id == Some(event)));
        }
        text
    }
}

impl Told {
    fn new(entry: Entry) -> Self {
        let received = received(&entry);
        let trace_id = entry
            .entry
            .pointer("/headers/ce-traceparent")
            .and_then(Value::as_str)
            .and_then(|parent| parent.split('-').nth(1))
            .map(str::to_owned);
        let body = entry.body.as_deref().map(|body| {
            serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned().into())
        });
        Self {
            summary: summary(&entry, received.as_ref()),
            at: entry.at,
            service: entry.service,
            what: entry.what,
            event_id: entry.event_id,
            event_type: entry.event_type,
            causation_id: entry.causation_id,
            seq: entry.seq,
            link: entry.link,
            trace_id,
            entry: entry.entry,
            body,
            event: received.map(|received| received.event),
        }
    }

    fn kind(&self) -> &str {
        self.event_type
            .strip_prefix("vigie.")
            .and_then(|rest| rest.rsplit_once(".v"))
            .map_or(&self.event_type, |(kind, _)| kind)
    }
}

/// The event that was said, when this release can read it.
fn received(entry: &Entry) -> Option<Received> {
    let body = entry.body.as_deref()?;
    let headers = entry.entry.get("headers")?.as_object()?;
    let pairs = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    schemas::decode(pairs, body).ok()
}

fn summary(entry: &Entry, received: Option<&Received>) -> String {
    let text = |name: &str| entry.entry.get(name).and_then(Value::as_str).unwrap_or("?");
    match (entry.what.as_str(), received) {
        ("said", Some(received)) => narrate::sentence(&received.event),
        ("said", None) => "an event that this release cannot read".to_owned(),
        ("received", _) => format!("{} has it", text("consumer")),
        ("parked", _) => format!(
            "{} gave up on it ({}): {}",
            text("consumer"),
            text("class"),
            text("reason")
        ),
        (what, _) => format!("{what} by {}: {}", text("by"), text("why")),
    }
}

/// An event and what became of it.
fn paragraph(about: &[&Told], asked_for: bool) -> String {
    let mark = if asked_for { '>' } else { ' ' };
    let said = about.iter().find(|entry| entry.what == "said");
    let Some(first) = said.or(about.first()) else {
        return String::new();
    };
    let (service, sentence) = match said {
        Some(said) => (said.service.as_str(), said.summary.clone()),
        // Somebody else's event: only its readers know it.
        None => {
            let source = first.entry.pointer("/headers/ce-source").and_then(Value::as_str);
            let source = source.unwrap_or("an unknown source");
            ("-", format!("sent by {source}, which keeps no record here"))
        }
    };
    let mut text = format!(
        "{mark}{} {service:<16} {:<18} {}\n",
        day_and_time(first.at),
        one_line(first.kind()),
        one_line(&sentence)
    );
    let mut detail = |what: &str, line: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:25}{what:<9} {}", "", one_line(line));
    };
    let as_of = first
        .body
        .as_ref()
        .and_then(|body| body.get("as_of"))
        .and_then(Value::as_str);
    let as_of = as_of.map_or_else(String::new, |as_of| format!("as of {as_of}, "));
    let place = match (said, first.link) {
        (None, _) => String::new(),
        (Some(_), Some(link)) => format!(", link {link}"),
        (Some(_), None) => ", not sealed yet".to_owned(),
    };
    detail("event", &format!("{as_of}{}{place}", first.event_id));
    for (what, line) in first.event.as_ref().map(grounds).unwrap_or_default() {
        detail(what, &line);
    }
    for entry in about {
        match entry.what.as_str() {
            "said" => {}
            "received" => detail(
                "received",
                &format!("by {} at {}", entry.service, entry.at.format("%H:%M:%S%.3f")),
            ),
            what => detail(what, &format!("{} at {}", entry.summary, day_and_time(entry.at))),
        }
    }
    text
}

/// What an event stands on, line by line, where its sentence does not say all.
fn grounds(event: &Event) -> Vec<(&'static str, String)> {
    match event {
        Event::DriftChecked(checked) => metrics(checked),
        Event::RetrainRequested(requested) => rules(&requested.rules),
        Event::RetrainDeclined(declined) => {
            let mut lines = rules(&declined.rules);
            for otherwise in &declined.counterfactuals {
                lines.push(("otherwise", format!("it would train if {}", otherwise.change)));
            }
            lines
        }
        Event::ModelTrained(trained) => vec![("sha256", trained.artifact.sha256.to_string())],
        Event::ModelValidated(validated) => {
            let mut lines = vec![("sha256", validated.artifact.sha256.to_string())];
            lines.extend(validated.failures.iter().map(|why| ("failed", why.clone())));
            lines
        }
        Event::ModelPromoted(promoted) => vec![
            ("sha256", promoted.artifact.sha256.to_string()),
            (
                "in force",
                format!("from {} UTC", day_and_time(promoted.effective_from)),
            ),
        ],
        _ => Vec::new(),
    }
}

fn metrics(checked: &DriftChecked) -> Vec<(&'static str, String)> {
    let share = |metric: &Metric| metric.value.get() / metric.threshold.get();
    let mut metrics: Vec<&Metric> = checked.metrics.iter().collect();
    metrics.sort_by(|a, b| {
        let nearer = share(b).partial_cmp(&share(a)).unwrap_or(Ordering::Equal);
        b.exceeded.cmp(&a.exceeded).then(nearer)
    });
    let exceeded = metrics.iter().filter(|metric| metric.exceeded).count();
    let shown = exceeded.clamp(NEAREST_METRICS, METRICS_MAX).min(metrics.len());
    let mut lines: Vec<_> = metrics[..shown]
        .iter()
        .map(|metric| ("metric", of_metric(metric)))
        .collect();
    if metrics.len() > shown {
        lines.push(("metric", format!("… and {} more", metrics.len() - shown)));
    }
    for missing in &checked.not_measured {
        let what = format!(
            "{} ({}): {}",
            missing.kind.metric_type(),
            missing.reason,
            missing.detail
        );
        lines.push(("not seen", what));
    }
    lines
}

fn of_metric(metric: &Metric) -> String {
    let feature = metric
        .feature
        .as_deref()
        .map_or_else(String::new, |feature| format!(" of {feature}"));
    let noise = metric
        .noise
        .map_or_else(String::new, |noise| format!(", noise {:.4}", noise.get()));
    format!(
        "{} {}{feature} {:.4}, threshold {:.4}{noise}{}",
        metric.kind.metric_type(),
        metric.name,
        metric.value.get(),
        metric.threshold.get(),
        if metric.exceeded { " <- exceeded" } else { "" }
    )
}

fn rules(rules: &[RuleOutcome]) -> Vec<(&'static str, String)> {
    let line = |rule: &RuleOutcome| {
        let result = match rule.result {
            RuleResult::Passed => "passed",
            RuleResult::Blocked => "BLOCKED",
            RuleResult::Bypassed => "bypassed",
            RuleResult::NotApplicable => "not applicable",
        };
        ("rule", format!("{} {result}: {}", rule.rule, rule.detail))
    };
    rules.iter().map(line).collect()
}

fn day_and_time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}
