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

mod drift;
mod versions;

use schemas::events::{DeclineReason, DriftKind, ValidationVerdict, Verdict};
use schemas::{Attributes, Event, ModelName, Window};

use crate::alert::{
    About, Alert, FACTS_MAX, Fact, MOVEMENTS_MAX, Movement, NAME_CHARS_MAX, SENTENCE_CHARS_MAX, Severity,
    Step,
};
use crate::text::{line, shell_word};

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
        Event::DriftDetected(body) => tell(drift::drift_detected(body, &attributes.model)),
        // Every check of the run has the same occasion, so the run is told once; were the first mail to fail, the next
        // check tells it.
        Event::DriftChecked(body) => match body.verdict {
            Verdict::Unknown => tell(drift::became_unknown(body, &attributes.model)),
            Verdict::Stable | Verdict::Drifted => Decision::Silent(Silence::CheckCouldLook),
        },
        Event::RetrainDeclined(body) if body.reason == DeclineReason::BreakerOpen => {
            tell(versions::breaker_open(body, &attributes.model))
        }
        Event::RetrainRequested(body) => tell(versions::retrain_requested(body, &attributes.model)),
        Event::TrainingFailed(body) => tell(versions::training_failed(body, &attributes.model)),
        Event::ModelValidated(body) => match body.verdict {
            ValidationVerdict::Failed => tell(versions::validation_failed(body, &attributes.model)),
            ValidationVerdict::Passed => Decision::Silent(Silence::CandidatePassed),
        },
        Event::ModelPromoted(body) => tell(versions::model_promoted(body, &attributes.model)),
        Event::PromotionRefused(body) => tell(versions::promotion_refused(body, &attributes.model)),
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
