//! Which events people hear about, and what they are told. Pure: no clock, no I/O.
//!
//! | event | told | severity |
//! | --- | --- | --- |
//! | `drift.detected` | once per unbroken run of drift and severity | immediate → CRITICAL, high → HIGH, else MEDIUM |
//! | `drift.checked` | when the verdict becomes `unknown` | MEDIUM; LOW before the first champion |
//! | `retrain.requested` | always | immediate → CRITICAL, high → HIGH, medium → MEDIUM, scheduled → LOW |
//! | `training.failed` | always | HIGH |
//! | `model.validated` | when it failed | HIGH |
//! | `model.promoted` | always | LOW; a roll-back HIGH |

use schemas::events::{
    ConceptDrift, DeclineReason, DriftChecked, DriftDetected, DriftKind, DriftSeverity, EstimatedPerformance,
    FeatureDrift, LevelShift, ModelPromoted, ModelValidated, Priority, PromotionKind, PromotionRefusal,
    PromotionRefused, RetrainDeclined, RetrainRequested, RuleResult, SegmentDrift, TargetDrift,
    TrainingFailed, ValidationVerdict, Verdict,
};
use schemas::{Attributes, Event, ModelName, Window};

use crate::alert::{
    About, Alert, FACTS_MAX, Fact, MOVEMENTS_MAX, Movement, NAME_CHARS_MAX, SENTENCE_CHARS_MAX, Severity,
    Step,
};
use crate::text::{count, line, percent, shell_word, signed_percent};

/// What to do about an event.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Decision {
    /// Tell everyone on the list.
    Tell(Box<Alert>),
    /// Tell nobody, and why.
    Silent(Silence),
}

/// Why nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The check could look; drift has its own event.
    CheckCouldLook,
    /// The candidate passed; its promotion is told.
    CandidatePassed,
    /// Not an event for people.
    NotForPeople,
}

impl Silence {
    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CheckCouldLook => "the check could look; drift has its own event",
            Self::CandidatePassed => "the candidate passed; its promotion is told",
            Self::NotForPeople => "not an event for people",
        }
    }
}

/// Decides whether an event becomes an alert, and writes it.
pub fn decide(event: &Event, attributes: &Attributes) -> Decision {
    let tell = |draft: Draft| Decision::Tell(Box::new(draft.finish(attributes)));
    match event {
        Event::DriftDetected(body) => tell(drift_detected(body, &attributes.model)),
        // Every check of the run has the same occasion, so the run is told once; were the first mail to fail, the next
        // check tells it.
        Event::DriftChecked(body) => match body.verdict {
            Verdict::Unknown => tell(became_unknown(body, &attributes.model)),
            Verdict::Stable | Verdict::Drifted => Decision::Silent(Silence::CheckCouldLook),
        },
        Event::RetrainDeclined(body) if body.reason == DeclineReason::BreakerOpen => {
            tell(breaker_open(body, &attributes.model))
        }
        Event::RetrainRequested(body) => tell(retrain_requested(body, &attributes.model)),
        Event::TrainingFailed(body) => tell(training_failed(body, &attributes.model)),
        Event::ModelValidated(body) => match body.verdict {
            ValidationVerdict::Failed => tell(validation_failed(body, &attributes.model)),
            ValidationVerdict::Passed => Decision::Silent(Silence::CandidatePassed),
        },
        Event::ModelPromoted(body) => tell(model_promoted(body, &attributes.model)),
        Event::PromotionRefused(body) => tell(promotion_refused(body, &attributes.model)),
        // Spelled out: a new event must not compile until someone has thought.
        Event::DriftCheckRequested(_)
        | Event::RetrainAsked(_)
        | Event::RetrainDeclined(_)
        | Event::TrainingStarted(_)
        | Event::ModelTrained(_)
        | Event::AlertSent(_)
        | Event::AlertFailed(_) => Decision::Silent(Silence::NotForPeople),
    }
}

/// An alert without what every alert takes from the event's context.
struct Draft {
    severity: Severity,
    title: String,
    what: String,
    as_of: chrono::DateTime<chrono::Utc>,
    facts: Vec<Fact>,
    moved: Vec<Movement>,
    next: Vec<Step>,
    link: Option<String>,
    occasion: String,
}

impl Draft {
    fn finish(mut self, attributes: &Attributes) -> Alert {
        let moved_unlisted = self.moved.len().saturating_sub(MOVEMENTS_MAX);
        self.moved.truncate(MOVEMENTS_MAX);
        self.facts.truncate(FACTS_MAX);
        Alert {
            severity: self.severity,
            title: self.title,
            what: line(&self.what, 2 * SENTENCE_CHARS_MAX),
            model: attributes.model.clone(),
            as_of: self.as_of,
            facts: self.facts,
            moved: self.moved,
            moved_unlisted,
            next: self.next,
            link: self.link.filter(|link| is_web_address(link)),
            about: About {
                event_id: attributes.id,
                event_type: attributes.kind.ce_type().to_owned(),
                correlation_id: attributes.correlation_id,
                trace_id: attributes.trace.trace_id().map(str::to_owned),
            },
            occasion: self.occasion,
        }
    }
}

fn drift_detected(body: &DriftDetected, model: &ModelName) -> Draft {
    let shown = name(model.as_str());
    let (severity, next) = match body.severity {
        DriftSeverity::Immediate => (
            Severity::Critical,
            "The retrain-decider decides at once; concept drift skips the cooldown and the minimum of new rows.",
        ),
        DriftSeverity::High => (Severity::High, HELD_BACK_BY_RULES),
        DriftSeverity::Medium => (Severity::Medium, HELD_BACK_BY_RULES),
        DriftSeverity::AlertOnly => (
            Severity::Medium,
            if body.kinds.contains(&DriftKind::Data) {
                "Nothing is retrained for so little. Features moved farther than chance explains, and less than their threshold."
            } else {
                "Nothing is retrained when only the fraud rate moves. Check whether fraud really changed, or labels come late."
            },
        ),
    };
    let kinds = kinds(&body.kinds);
    let run = if body.consecutive > 1 {
        format!(
            ", in {} checks in a row since {}",
            body.consecutive,
            minute(body.since)
        )
    } else {
        String::new()
    };
    let mut facts = Vec::new();
    if let Some(concept) = &body.concept {
        facts.extend(concept_facts(concept));
    }
    if let Some(target) = &body.target {
        facts.extend(target_facts(target));
    }
    if let Some(data_drift) = body.data_drift {
        facts.push(Fact::new("Data drift (PSI)", format!("{:.2}", data_drift.get())));
    }
    if let Some(estimated) = &body.estimated {
        facts.extend(estimate_fact(estimated));
    }
    facts.push(Fact::new("Window", window(&body.window)));
    facts.push(Fact::new("Rows in the window", count(body.rows)));
    facts.push(Fact::new("Champion", name(body.champion.as_str())));
    let moved = body
        .features
        .iter()
        .map(|drift| Movement {
            feature: name(&drift.feature),
            psi: drift.psi.get(),
            threshold: drift.threshold.get(),
            noise: drift.noise.get(),
            detail: what_moved(drift),
        })
        .collect();
    Draft {
        severity,
        title: format!("{kinds} drift in {shown}"),
        what: format!("{} drift was found in the model {shown}{run}.", capital(&kinds)),
        as_of: body.as_of,
        facts,
        moved,
        next: vec![say(next), run_check(model, body.as_of)],
        link: None,
        occasion: format!("drift/{model}/{}/{}", instant(body.since), body.severity),
    }
}

/// `chip: 70.1 % → 20.0 %, phone: 0 % → 50.1 %; since 2 Mar 2026 04:00 UTC; most in country FR (PSI 1.52)`.
fn what_moved(drift: &FeatureDrift) -> String {
    let shift = |shift: &LevelShift| {
        let (before, now) = (percent(shift.reference.get()), percent(shift.current.get()));
        format!("{}: {before} → {now}", name(&shift.level))
    };
    let shifts: Vec<String> = drift.moved.iter().map(shift).collect();
    let since = drift.began.map(|began| format!("since {}", minute(began)));
    let segments: Vec<String> = drift.segments.iter().map(segment).collect();
    let most = (!segments.is_empty()).then(|| format!("most in {}", segments.join(", ")));
    let parts: Vec<String> = [Some(shifts.join(", ")), since, most]
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect();
    line(&parts.join("; "), SENTENCE_CHARS_MAX)
}

fn segment(segment: &SegmentDrift) -> String {
    let (column, level) = (name(&segment.column), name(&segment.level));
    format!("{column} {level} (PSI {:.2})", segment.psi.get())
}

const HELD_BACK_BY_RULES: &str = "The retrain-decider decides next; it waits if the last training is too young or too few rows arrived since.";

fn concept_facts(concept: &ConceptDrift) -> Vec<Fact> {
    let mut facts = vec![
        Fact::new(
            "Recall",
            format!(
                "{} on {} known frauds; {} at validation",
                percent(concept.realised_recall.get()),
                count(concept.frauds),
                percent(concept.validated_recall.get()),
            ),
        ),
        Fact::new(
            "Drop in recall",
            format!(
                "{:.3} (between {:.3} and {:.3})",
                concept.drop.get(),
                concept.drop_low.get(),
                concept.drop_high.get()
            ),
        ),
    ];
    if let (Some(realised), Some(validated)) = (concept.realised_precision, concept.validated_precision) {
        let stands_on = concept
            .flagged
            .map(|rows| format!(" on {} flagged rows", count(rows)))
            .unwrap_or_default();
        let text = format!(
            "{}{stands_on}; {} at validation",
            percent(realised.get()),
            percent(validated.get())
        );
        facts.push(Fact::new("Precision", text));
    }
    facts.extend(explained_by_scores(concept));
    facts
}

/// Whether the scores of the same rows let expect the drop.
fn explained_by_scores(concept: &ConceptDrift) -> Option<Fact> {
    let expected = concept.expected_recall?.get();
    let (validated, realised) = (concept.validated_recall.get(), concept.realised_recall.get());
    let meaning = if validated - expected < (validated - realised) / 2.0 {
        "the same score means something else now"
    } else {
        "the transactions moved to where the model is weak"
    };
    let text = format!(
        "{} was to be expected of these rows: {meaning}",
        percent(expected)
    );
    Some(Fact::new("Recall by the scores", text))
}

/// `Recall about 84.1 %, precision about 77.0 %, before labels are known`.
fn estimate_fact(estimated: &EstimatedPerformance) -> Option<Fact> {
    let rates = [("recall", estimated.recall), ("precision", estimated.precision)];
    let known: Vec<String> = rates
        .into_iter()
        .filter_map(|(what, rate)| Some(format!("{what} {}", percent(rate?.get()))))
        .collect();
    let text = format!("{}, before their labels are known", known.join(", "));
    (!known.is_empty()).then(|| Fact::new("Estimated by the scores", text))
}

fn target_facts(target: &TargetDrift) -> [Fact; 1] {
    let change = target.relative_change.map_or_else(
        || "no fraud in the reference".to_owned(),
        |change| signed_percent(change.get()),
    );
    [Fact::new(
        "Fraud rate",
        format!(
            "{} against {} in the reference ({change})",
            percent(target.current_rate.get()),
            percent(target.reference_rate.get())
        ),
    )]
}

fn became_unknown(body: &DriftChecked, model: &ModelName) -> Draft {
    let shown = name(model.as_str());
    let mut facts: Vec<Fact> = body
        .not_measured
        .iter()
        .filter(|gap| gap.blocks_verdict)
        .map(|gap| {
            let what = format!("{} drift not measured", capital(kind_word(gap.kind)));
            Fact::new(&what, format!("{} ({})", gap.detail, gap.reason))
        })
        .collect();
    facts.push(Fact::new("Window", window(&body.window)));
    facts.push(Fact::new("Rows in the window", count(body.rows)));
    let (severity, what) = if body.champion.is_some() {
        (
            Severity::Medium,
            format!(
                "The drift check of the model {shown} could not look. Until it can, nothing is known about drift; this is not a sign that all is well."
            ),
        )
    } else {
        (
            Severity::Low,
            format!(
                "The model {shown} has no champion yet, so there is nothing to compare its transactions with."
            ),
        )
    };
    Draft {
        severity,
        title: format!("drift is unknown in {shown}"),
        what,
        as_of: body.as_of,
        facts,
        moved: Vec::new(),
        next: vec![
            say("You are told again when the reason changes, or after a check that could look."),
            run_check(model, body.as_of),
        ],
        link: None,
        occasion: format!(
            "unknown/{model}/{}",
            instant(body.unknown_since.unwrap_or(body.as_of))
        ),
    }
}

fn retrain_requested(body: &RetrainRequested, model: &ModelName) -> Draft {
    let shown = name(model.as_str());
    let severity = match body.priority {
        Priority::Immediate => Severity::Critical,
        Priority::High => Severity::High,
        Priority::Medium => Severity::Medium,
        Priority::Scheduled => Severity::Low,
    };
    let mut facts = vec![
        Fact::new("Reason", &body.reason),
        Fact::new("Priority", body.priority.as_str()),
        Fact::new("Asked for by", body.trigger.as_str().replace('_', " ")),
    ];
    if let Some(rows) = body.new_rows {
        facts.push(Fact::new("New rows since the last training", count(rows)));
    }
    match &body.champion {
        Some(champion) => facts.push(Fact::new("Champion to be replaced", name(champion.as_str()))),
        None => facts.push(Fact::new(
            "Champion to be replaced",
            "none: this is the first training",
        )),
    }
    facts.extend(
        body.rules
            .iter()
            .filter(|rule| rule.result == RuleResult::Bypassed)
            .map(|rule| Fact::new("Rule not applied", format!("{}: {}", rule.rule, rule.detail))),
    );
    Draft {
        severity,
        title: format!("retraining of {shown} requested"),
        what: format!("A retraining of the model {shown} was decided."),
        as_of: body.as_of,
        facts,
        moved: Vec::new(),
        next: vec![say(
            "The candidate is validated before it may replace the champion. You are told how it ends.",
        )],
        link: None,
        occasion: format!("retrain/{}", body.decision_id),
    }
}

fn breaker_open(body: &RetrainDeclined, model: &ModelName) -> Draft {
    let shown = name(model.as_str());
    Draft {
        severity: Severity::High,
        title: format!("trainings do not cure {shown}"),
        what: format!(
            "The model {shown} still drifts after several urgent trainings. No further one is begun by itself for now: a person should look."
        ),
        as_of: body.as_of,
        facts: vec![
            Fact::new("Reason", &body.detail),
            Fact::new("Asked for by", body.trigger.as_str().replace('_', " ")),
        ],
        moved: Vec::new(),
        next: vec![
            say("Look at what the last candidates failed on and at the newest drift. To train all the same:"),
            Step::Run(format!(
                "vigie retrain {} --force --reason {}",
                shell_word(&visible(model)),
                shell_word("looked at the breaker")
            )),
        ],
        link: None,
        // Once a day, however often drift asks.
        occasion: format!("breaker-open/{model}/{}", body.as_of.format("%Y-%m-%d")),
    }
}

fn training_failed(body: &TrainingFailed, model: &ModelName) -> Draft {
    let shown = name(model.as_str());
    let mut facts = vec![
        Fact::new("Reason", &body.detail),
        Fact::new("Kind of failure", body.failure.as_str().replace('_', " ")),
        Fact::new("Backend", &body.backend),
        Fact::new("Attempts", body.attempts.to_string()),
    ];
    if let Some(run_id) = &body.run_id {
        facts.push(Fact::new("Run", run_id));
    }
    Draft {
        severity: Severity::High,
        title: format!("training of {shown} failed"),
        what: format!("The training of the model {shown} ended without a candidate. The champion stays."),
        as_of: body.as_of,
        facts,
        moved: Vec::new(),
        next: vec![
            say("No further attempt follows by itself for this decision. Once the cause is gone, ask again:"),
            run_retrain(model, "training failed before"),
        ],
        link: body.run_url.clone(),
        occasion: format!("training-failed/{}", body.job_id),
    }
}

fn validation_failed(body: &ModelValidated, model: &ModelName) -> Draft {
    let shown = name(model.as_str());
    let version = name(body.version.as_str());
    let mut facts: Vec<Fact> = body
        .gates
        .iter()
        .map(|gate| {
            let measured = body.metrics.iter().find(|metric| metric.name == gate.metric);
            let value = measured
                .and_then(|metric| metric.value)
                .map_or_else(|| "undefined".to_owned(), |value| format!("{:.3}", value.get()));
            let interval = measured
                .and_then(|metric| metric.interval.as_ref())
                .map(|sure| format!(" (between {:.3} and {:.3})", sure.low.get(), sure.high.get()))
                .unwrap_or_default();
            let outcome = if gate.passed { "reached" } else { "missed" };
            Fact::new(
                &capital(&name(&gate.metric)),
                format!(
                    "{value}{interval}, at least {:.2} is needed: {outcome}",
                    gate.min.get()
                ),
            )
        })
        .collect();
    facts.extend(
        body.failures
            .iter()
            .take(3)
            .map(|failure| Fact::new("Failed because", failure)),
    );
    facts.push(Fact::new(
        "Judged on",
        format!("{} rows with {} frauds", count(body.rows), count(body.frauds)),
    ));
    facts.push(Fact::new("Held-out window", window(&body.holdout_window)));
    Draft {
        severity: Severity::High,
        title: format!("candidate {version} of {shown} failed validation"),
        what: format!(
            "The candidate {version} of the model {shown} failed validation and is not promoted. The champion stays."
        ),
        as_of: body.as_of,
        facts,
        moved: Vec::new(),
        next: vec![
            say("The next training is decided by the usual rules. To ask for one yourself:"),
            run_retrain(model, "candidate failed validation"),
        ],
        link: None,
        occasion: format!("validation-failed/{}/{}", body.decision_id, body.version),
    }
}

fn model_promoted(body: &ModelPromoted, model: &ModelName) -> Draft {
    let shown = name(model.as_str());
    let version = name(body.version.as_str());
    let (severity, title, what) = match body.kind {
        PromotionKind::Promotion => (
            Severity::Low,
            format!("{version} is champion of {shown}"),
            format!(
                "The candidate {version} passed validation and is the champion of the model {shown} now."
            ),
        ),
        PromotionKind::Rollback => (
            Severity::High,
            format!("{shown} was rolled back to {version}"),
            format!("The earlier version {version} was put back as the champion of the model {shown}."),
        ),
    };
    let previous = body
        .previous
        .as_ref()
        .map_or_else(|| "none".to_owned(), |version| name(version.as_str()));
    let registry = match &body.registry_version {
        Some(number) => format!("{}, version {number}", body.registry),
        None => body.registry.clone(),
    };
    Draft {
        severity,
        title,
        what,
        as_of: body.as_of,
        facts: vec![
            Fact::new(
                "Recall at validation",
                format!(
                    "{:.3} on {} frauds",
                    body.validated_recall.get(),
                    count(body.validated_frauds)
                ),
            ),
            Fact::new(
                "Precision at validation",
                format!("{:.3}", body.validated_precision.get()),
            ),
            Fact::new("Champion before", previous),
            Fact::new("Trained on", window(&body.training_window)),
            Fact::new("Registry", registry),
            Fact::new("Artefact SHA-256", body.artifact.sha256.as_str()),
        ],
        moved: Vec::new(),
        next: vec![say(
            "Nothing to do. Drift checks compare with the new champion's training window from now on.",
        )],
        link: None,
        occasion: format!("promoted/{model}/{}/{}", body.fence, body.version),
    }
}

fn promotion_refused(body: &PromotionRefused, model: &ModelName) -> Draft {
    let shown = name(model.as_str());
    let version = name(body.version.as_str());
    let champion = body
        .champion
        .as_ref()
        .map_or_else(|| "none".to_owned(), |version| name(version.as_str()));
    let (severity, next) = match body.reason {
        // The newer model is the better informed one; nobody has to act.
        PromotionRefusal::Superseded => (
            Severity::Low,
            vec![say("Nothing to do: a newer decision came first.")],
        ),
        PromotionRefusal::Artifact
        | PromotionRefusal::ReportIncomplete
        | PromotionRefusal::Registry
        | PromotionRefusal::Other => (
            Severity::High,
            vec![
                say("The candidate is retired and never promoted. Once the cause is gone, ask for another:"),
                run_retrain(model, "promotion refused before"),
            ],
        ),
    };
    Draft {
        severity,
        title: format!("{version} of {shown} was not promoted"),
        what: format!(
            "The candidate {version} passed validation and was refused at promotion. The champion of {shown} stays."
        ),
        as_of: body.as_of,
        facts: vec![
            Fact::new("Reason", &body.detail),
            Fact::new("Kind of refusal", body.reason.as_str().replace('_', " ")),
            Fact::new("Champion in force", champion),
        ],
        moved: Vec::new(),
        next,
        link: None,
        occasion: format!("promotion-refused/{}", body.version),
    }
}

fn say(sentence: &str) -> Step {
    Step::Say(sentence.to_owned())
}

fn run_check(model: &ModelName, as_of: chrono::DateTime<chrono::Utc>) -> Step {
    Step::Run(format!(
        "vigie check {} --as-of {}",
        shell_word(&visible(model)),
        instant(as_of)
    ))
}

fn run_retrain(model: &ModelName, reason: &str) -> Step {
    Step::Run(format!(
        "vigie retrain {} --reason {}",
        shell_word(&visible(model)),
        shell_word(reason)
    ))
}

/// A command needs the whole name, so it is cleaned and not cut.
fn visible(model: &ModelName) -> String {
    line(model.as_str(), 128)
}

fn kinds(kinds: &[DriftKind]) -> String {
    let words: Vec<&str> = kinds.iter().copied().map(kind_word).collect();
    match words.as_slice() {
        [] => "unnamed".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

const fn kind_word(kind: DriftKind) -> &'static str {
    match kind {
        DriftKind::Data => "data",
        DriftKind::Target => "target",
        DriftKind::Concept => "concept",
    }
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

fn name(text: &str) -> String {
    line(text, NAME_CHARS_MAX)
}

fn window(window: &Window) -> String {
    format!("{} to {}", minute(window.start()), minute(window.end()))
}

/// An instant as people read it.
pub(crate) fn minute(at: chrono::DateTime<chrono::Utc>) -> String {
    at.format("%-d %b %Y %H:%M UTC").to_string()
}

fn instant(at: chrono::DateTime<chrono::Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

fn is_web_address(link: &str) -> bool {
    url::Url::parse(link).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
}
