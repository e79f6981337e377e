//! What people are told of trainings and of what becomes of their models.

use schemas::ModelName;
use schemas::events::{
    ModelPromoted, ModelValidated, Priority, PromotionKind, PromotionRefusal, PromotionRefused,
    RetrainDeclined, RetrainRequested, RuleResult, TrainingFailed,
};

use super::{Draft, capital, name, run_retrain, say, visible, window};
use crate::alert::{Fact, Severity, Step};
use crate::text::{count, shell_word};

pub fn retrain_requested(body: &RetrainRequested, model: &ModelName) -> Draft {
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

pub fn breaker_open(body: &RetrainDeclined, model: &ModelName) -> Draft {
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

pub fn training_failed(body: &TrainingFailed, model: &ModelName) -> Draft {
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

pub fn validation_failed(body: &ModelValidated, model: &ModelName) -> Draft {
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

pub fn model_promoted(body: &ModelPromoted, model: &ModelName) -> Draft {
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

pub fn promotion_refused(body: &PromotionRefused, model: &ModelName) -> Draft {
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
