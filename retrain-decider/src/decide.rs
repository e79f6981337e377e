//! The decision: pure core. Everything it needs arrives as a value; nothing here asks a clock.
//!
//! Every rule is evaluated and recorded, also after one has blocked: the first that blocks names the reason,
//! all of them together make the counterfactual.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use schemas::events::{
    Counterfactual, DeclineReason, DriftKind, DriftSeverity, Priority, RuleOutcome, RuleResult, TriggerKind,
};
use schemas::{CheckId, DecisionId, ModelVersion};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// When a model is retrained. Durations are compared with `as_of` instants.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Policy {
    /// Rest after a completed training, seconds.
    #[serde(rename = "cooldown_seconds", serialize_with = "as_seconds")]
    pub cooldown: TimeDelta,
    /// Rest after a failed training, seconds.
    #[serde(rename = "failure_cooldown_seconds", serialize_with = "as_seconds")]
    pub failure_cooldown: TimeDelta,
    /// Transactions that must have arrived since the last completed training, count.
    pub new_rows_min: u64,
    /// Priorities that skip the cooldowns.
    pub bypass_cooldown: Vec<Priority>,
    /// Priorities that skip the minimum of new rows.
    pub bypass_new_rows: Vec<Priority>,
    /// Immediate trainings allowed within `breaker_span`, count.
    pub breaker_max: u32,
    /// Span of the breaker, seconds.
    #[serde(rename = "breaker_span_seconds", serialize_with = "as_seconds")]
    pub breaker_span: TimeDelta,
    /// A training that has not ended after this no longer holds others back, seconds.
    #[serde(rename = "in_progress_max_seconds", serialize_with = "as_seconds")]
    pub in_progress_max: TimeDelta,
}

fn as_seconds<S: serde::Serializer>(duration: &TimeDelta, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(duration.num_seconds())
}

/// What a drift says that matters here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// The check that found it.
    pub check_id: CheckId,
    /// The instant of the check.
    pub as_of: DateTime<Utc>,
    /// The champion that drifts.
    pub champion: ModelVersion,
    /// What moved.
    pub kinds: Vec<DriftKind>,
    /// How urgent.
    pub severity: DriftSeverity,
    /// One sentence with the numbers.
    pub summary: String,
}

/// What asks for a decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// A drift was detected.
    Drift(Drift),
    /// The daily slot.
    Schedule,
    /// An operator asks.
    Operator {
        /// Who.
        requested_by: String,
        /// Why.
        reason: String,
        /// Skip cooldowns and the minimum of new rows.
        force: bool,
    },
    /// A training ended while this drift waited.
    TrainingEnded(Drift),
}

impl Trigger {
    /// The kind, as events and tables name it.
    pub const fn kind(&self) -> TriggerKind {
        match self {
            Self::Drift(_) => TriggerKind::Drift,
            Self::Schedule => TriggerKind::Schedule,
            Self::Operator { .. } => TriggerKind::Operator,
            Self::TrainingEnded(_) => TriggerKind::TrainingEnded,
        }
    }

    /// The drift behind it, if there is one.
    pub const fn drift(&self) -> Option<&Drift> {
        match self {
            Self::Drift(drift) | Self::TrainingEnded(drift) => Some(drift),
            Self::Schedule | Self::Operator { .. } => None,
        }
    }
}

/// A training that was requested and has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Its decision.
    pub decision_id: DecisionId,
    /// Its decision's instant.
    pub since: DateTime<Utc>,
}

/// What is known about the model at `as_of`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// A training that has not ended.
    pub running: Option<Running>,
    /// `as_of` of the last training that gave a model.
    pub last_completed_at: Option<DateTime<Utc>>,
    /// `as_of` of the last training that gave none.
    pub last_failed_at: Option<DateTime<Utc>>,
    /// Transactions since the last completed training; none when never trained or not countable.
    pub new_rows: Option<u64>,
    /// The champion in force.
    pub champion: Option<ModelVersion>,
    /// `as_of` of the immediate trainings within the breaker's span, oldest first.
    pub immediate_trainings: Vec<DateTime<Utc>>,
}

/// What was decided, and why.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Train or not.
    pub verdict: Verdict,
    /// Every rule with its inputs and outcome, in order.
    pub rules: Vec<RuleOutcome>,
    /// What would have changed a refusal; empty for a training.
    pub counterfactuals: Vec<Counterfactual>,
}

/// Train or not.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Train.
    Train {
        /// How urgent.
        priority: Priority,
        /// One sentence for people.
        reason: String,
    },
    /// Do not train.
    Decline {
        /// The first rule that blocked.
        reason: DeclineReason,
        /// One sentence for people.
        detail: String,
    },
}

/// Decides about one trigger.
pub fn decide(policy: &Policy, facts: &Facts, trigger: &Trigger, as_of: DateTime<Utc>) -> Decision {
    let priority = priority(facts, trigger);
    let forced = matches!(trigger, Trigger::Operator { force: true, .. });
    let judged = [
        severity(trigger),
        training_in_progress(policy, facts, as_of),
        superseded(facts, trigger),
        cooldown(policy, facts, priority, forced, as_of),
        new_rows(policy, facts, priority, forced),
        breaker(policy, facts, priority, as_of),
    ];
    let blocked: Vec<&Judged> = judged
        .iter()
        .filter(|rule| rule.outcome.result == RuleResult::Blocked)
        .collect();
    let verdict = match blocked.first() {
        None => Verdict::Train {
            priority,
            reason: reason_to_train(facts, trigger),
        },
        Some(first) => Verdict::Decline {
            reason: first.reason,
            detail: first.outcome.detail.clone(),
        },
    };
    let counterfactuals = counterfactuals(policy, &blocked, priority);
    Decision {
        verdict,
        rules: judged.into_iter().map(|rule| rule.outcome).collect(),
        counterfactuals,
    }
}

fn priority(facts: &Facts, trigger: &Trigger) -> Priority {
    match trigger {
        Trigger::Drift(drift) | Trigger::TrainingEnded(drift) => match drift.severity {
            DriftSeverity::Immediate => Priority::Immediate,
            DriftSeverity::High => Priority::High,
            DriftSeverity::Medium | DriftSeverity::AlertOnly => Priority::Medium,
        },
        Trigger::Operator { .. } => Priority::High,
        Trigger::Schedule if facts.last_completed_at.is_none() => Priority::High,
        Trigger::Schedule => Priority::Scheduled,
    }
}

fn reason_to_train(facts: &Facts, trigger: &Trigger) -> String {
    match trigger {
        Trigger::Drift(drift) => drift.summary.clone(),
        Trigger::TrainingEnded(drift) => {
            format!("{} (looked at again after a training ended)", drift.summary)
        }
        Trigger::Operator {
            requested_by, reason, ..
        } => format!("{requested_by} asks: {reason}"),
        Trigger::Schedule if facts.last_completed_at.is_none() => {
            "the model has never been trained".to_owned()
        }
        Trigger::Schedule => "the daily training is due".to_owned(),
    }
}

/// A rule's outcome, the reason it stands for when it blocks, and what would unblock it.
struct Judged {
    outcome: RuleOutcome,
    reason: DeclineReason,
    /// What would have to happen, e.g. `17 h pass`; none when time and data alone cannot help.
    needed: Option<String>,
}

fn judged(
    rule: &str,
    reason: DeclineReason,
    result: RuleResult,
    inputs: &[(&str, Value)],
    detail: impl Into<String>,
    needed: Option<String>,
) -> Judged {
    let inputs: BTreeMap<String, Value> = inputs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    Judged {
        outcome: RuleOutcome {
            rule: rule.to_owned(),
            result,
            inputs,
            detail: detail.into(),
        },
        reason,
        needed,
    }
}

fn severity(trigger: &Trigger) -> Judged {
    let reason = DeclineReason::AlertOnly;
    let Some(drift) = trigger.drift() else {
        return judged(
            "severity",
            reason,
            RuleResult::NotApplicable,
            &[],
            "no drift behind this trigger",
            None,
        );
    };
    let inputs = [("severity", json!(drift.severity.as_str()))];
    if drift.severity == DriftSeverity::AlertOnly {
        let needed = Some("data drift above its threshold or a recall drop is found as well".to_owned());
        judged(
            "severity",
            reason,
            RuleResult::Blocked,
            &inputs,
            "only the fraud rate moved, or features by less than their threshold: people are told, nothing is trained",
            needed,
        )
    } else {
        judged(
            "severity",
            reason,
            RuleResult::Passed,
            &inputs,
            format!("severity {}", drift.severity),
            None,
        )
    }
}

fn training_in_progress(policy: &Policy, facts: &Facts, as_of: DateTime<Utc>) -> Judged {
    let reason = DeclineReason::TrainingInProgress;
    let rule = "training_in_progress";
    let Some(running) = facts.running else {
        return judged(
            rule,
            reason,
            RuleResult::Passed,
            &[],
            "no training is running",
            None,
        );
    };
    let age = as_of - running.since;
    let inputs = [
        ("decision_id", json!(running.decision_id.to_string())),
        ("running_hours", json!(hours(age))),
        ("in_progress_max_hours", json!(hours(policy.in_progress_max))),
    ];
    if age > policy.in_progress_max {
        let detail = format!(
            "a training of {} ago never ended and no longer counts",
            spoken(age)
        );
        return judged(rule, reason, RuleResult::Passed, &inputs, detail, None);
    }
    let detail = format!(
        "a training decided as of {} has not ended",
        running.since.format("%Y-%m-%d %H:%M")
    );
    judged(
        rule,
        reason,
        RuleResult::Blocked,
        &inputs,
        detail,
        Some("the running training ends".to_owned()),
    )
}

fn superseded(facts: &Facts, trigger: &Trigger) -> Judged {
    let reason = DeclineReason::Superseded;
    let (Some(drift), Some(champion)) = (trigger.drift(), &facts.champion) else {
        return judged(
            "superseded",
            reason,
            RuleResult::NotApplicable,
            &[],
            "no drift, or no champion, to compare",
            None,
        );
    };
    let inputs = [
        ("drifting", json!(drift.champion.as_str())),
        ("champion", json!(champion.as_str())),
    ];
    if drift.champion == *champion {
        judged(
            "superseded",
            reason,
            RuleResult::Passed,
            &inputs,
            "the drift is about the present champion",
            None,
        )
    } else {
        let detail = format!(
            "the drift was measured against {}, and {champion} has replaced it",
            drift.champion
        );
        let needed = Some(format!("the drift is found against {champion} too"));
        judged("superseded", reason, RuleResult::Blocked, &inputs, detail, needed)
    }
}

fn cooldown(
    policy: &Policy,
    facts: &Facts,
    priority: Priority,
    forced: bool,
    as_of: DateTime<Utc>,
) -> Judged {
    let reason = DeclineReason::Cooldown;
    let rests = [
        (facts.last_completed_at, policy.cooldown, "completed"),
        (facts.last_failed_at, policy.failure_cooldown, "failed"),
    ];
    // The rest that lasts longest decides.
    let longest = rests
        .into_iter()
        .filter_map(|(at, rest, how)| at.map(|at| (at + rest, at, rest, how)))
        .max_by_key(|(until, ..)| *until);
    let Some((until, at, rest, how)) = longest else {
        return judged(
            "cooldown",
            reason,
            RuleResult::NotApplicable,
            &[],
            "the model has never been trained",
            None,
        );
    };
    let inputs = [
        ("last_training", json!(at)),
        ("last_training_ended", json!(how)),
        ("hours_since_last_training", json!(hours(as_of - at))),
        ("cooldown_hours", json!(hours(rest))),
    ];
    let age = spoken(as_of - at);
    // The end of the rest is inclusive: at exactly 48 h a training may begin.
    if as_of >= until {
        return judged(
            "cooldown",
            reason,
            RuleResult::Passed,
            &inputs,
            format!("the last training {how} {age} ago"),
            None,
        );
    }
    let detail = format!("the last training {how} {age} ago, less than {}", spoken(rest));
    if forced || policy.bypass_cooldown.contains(&priority) {
        return judged("cooldown", reason, RuleResult::Bypassed, &inputs, detail, None);
    }
    judged(
        "cooldown",
        reason,
        RuleResult::Blocked,
        &inputs,
        detail,
        Some(format!("{} pass", spoken(until - as_of))),
    )
}

fn new_rows(policy: &Policy, facts: &Facts, priority: Priority, forced: bool) -> Judged {
    let reason = DeclineReason::NotEnoughNewRows;
    if facts.last_completed_at.is_none() {
        return judged(
            "new_rows",
            reason,
            RuleResult::NotApplicable,
            &[],
            "the model has never been trained",
            None,
        );
    }
    let inputs = [
        ("new_rows", json!(facts.new_rows)),
        ("new_rows_min", json!(policy.new_rows_min)),
    ];
    let bypassed = forced || policy.bypass_new_rows.contains(&priority);
    match facts.new_rows {
        Some(rows) if rows >= policy.new_rows_min => judged(
            "new_rows",
            reason,
            RuleResult::Passed,
            &inputs,
            format!("{rows} new transactions"),
            None,
        ),
        Some(rows) => {
            let detail = format!(
                "{rows} new transactions since the last training, fewer than {}",
                policy.new_rows_min
            );
            let missing = policy.new_rows_min - rows;
            let (result, needed) = if bypassed {
                (RuleResult::Bypassed, None)
            } else {
                (
                    RuleResult::Blocked,
                    Some(format!("{missing} more transactions arrive")),
                )
            };
            judged("new_rows", reason, result, &inputs, detail, needed)
        }
        None => {
            let detail = "the new transactions could not be counted";
            let (result, needed) = if bypassed {
                (RuleResult::Bypassed, None)
            } else {
                (RuleResult::Blocked, Some("the source can be read".to_owned()))
            };
            judged("new_rows", reason, result, &inputs, detail, needed)
        }
    }
}

fn breaker(policy: &Policy, facts: &Facts, priority: Priority, as_of: DateTime<Utc>) -> Judged {
    let reason = DeclineReason::BreakerOpen;
    if priority != Priority::Immediate {
        return judged(
            "breaker",
            reason,
            RuleResult::NotApplicable,
            &[],
            "only immediate trainings are bounded",
            None,
        );
    }
    let recent: Vec<DateTime<Utc>> = facts
        .immediate_trainings
        .iter()
        .copied()
        .filter(|at| *at > as_of - policy.breaker_span)
        .collect();
    let inputs = [
        ("immediate_trainings", json!(recent.len())),
        ("breaker_max", json!(policy.breaker_max)),
        ("breaker_span_hours", json!(hours(policy.breaker_span))),
    ];
    let max = policy.breaker_max as usize;
    if recent.len() < max {
        let detail = format!(
            "{} immediate trainings within {}",
            recent.len(),
            spoken(policy.breaker_span)
        );
        return judged("breaker", reason, RuleResult::Passed, &inputs, detail, None);
    }
    let detail = format!(
        "{} immediate trainings within {} did not cure the model; a person should look",
        recent.len(),
        spoken(policy.breaker_span)
    );
    // The breaker closes when enough of them have left its span.
    let leaves = recent[recent.len() - max] + policy.breaker_span;
    judged(
        "breaker",
        reason,
        RuleResult::Blocked,
        &inputs,
        detail,
        Some(format!("{} pass", spoken(leaves - as_of))),
    )
}

fn counterfactuals(policy: &Policy, blocked: &[&Judged], priority: Priority) -> Vec<Counterfactual> {
    if blocked.is_empty() {
        return Vec::new();
    }
    let mut all = Vec::new();
    let needed: Option<Vec<String>> = blocked.iter().map(|rule| rule.needed.clone()).collect();
    if let Some(needed) = needed {
        let rules = blocked.iter().map(|rule| rule.outcome.rule.clone()).collect();
        all.push(Counterfactual {
            rules,
            change: needed.join(" and "),
        });
    }
    let only_rests = blocked.iter().all(|rule| match rule.outcome.rule.as_str() {
        "cooldown" => policy.bypass_cooldown.contains(&Priority::Immediate),
        "new_rows" => policy.bypass_new_rows.contains(&Priority::Immediate),
        _ => false,
    });
    if only_rests && priority != Priority::Immediate {
        let rules: Vec<String> = blocked.iter().map(|rule| rule.outcome.rule.clone()).collect();
        all.push(Counterfactual {
            rules: rules.clone(),
            change: "concept drift (severity immediate) is found".to_owned(),
        });
        all.push(Counterfactual {
            rules,
            change: "an operator asks with `vigie retrain MODEL --force`".to_owned(),
        });
    }
    all
}

/// Hours with two decimals, for the record.
fn hours(duration: TimeDelta) -> f64 {
    (duration.num_seconds() as f64 / 36.0).round() / 100.0
}

/// A duration for people: `31 h`, `2 d 3 h`, `45 min`.
pub fn spoken(duration: TimeDelta) -> String {
    let minutes = (duration.num_seconds().max(0) + 59) / 60;
    match (minutes / 1440, minutes % 1440 / 60, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests;
