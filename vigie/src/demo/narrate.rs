//! Events as sentences.

use schemas::Event;
use schemas::events::{DriftKind, ValidationVerdict, Verdict};

/// One sentence that says what happened and why.
pub fn sentence(event: &Event) -> String {
    match event {
        Event::DriftCheckRequested(asked) => {
            format!(
                "{} asks for a check as of {}",
                asked.requested_by,
                asked.as_of.format("%Y-%m-%d %H:%M")
            )
        }
        Event::DriftChecked(checked) => match checked.verdict {
            Verdict::Stable => format!(
                "stable: {} rows, nothing moved beyond threshold and noise",
                checked.rows
            ),
            Verdict::Drifted => {
                let kinds: Vec<&str> = checked.drifted.iter().map(|kind| word(*kind)).collect();
                format!("drifted: {} ({} rows)", kinds.join(", "), checked.rows)
            }
            Verdict::Unknown => {
                // Each kind of drift has its own reason, often the same one.
                let mut why: Vec<&str> = checked
                    .not_measured
                    .iter()
                    .filter(|missing| missing.blocks_verdict)
                    .map(|missing| missing.detail.as_str())
                    .collect();
                why.dedup();
                format!("unknown, could not look: {}", why.join("; "))
            }
        },
        Event::DriftDetected(drift) => {
            let mut parts = Vec::new();
            if let Some(concept) = &drift.concept {
                let precision = match (concept.validated_precision, concept.realised_precision) {
                    (Some(validated), Some(realised)) => {
                        format!(", precision {:.2} -> {:.2}", validated.get(), realised.get())
                    }
                    _ => String::new(),
                };
                parts.push(format!(
                    "concept: recall {:.2} -> {:.2}{precision} on {} ripened frauds",
                    concept.validated_recall.get(),
                    concept.realised_recall.get(),
                    concept.frauds
                ));
            }
            if drift.kinds.contains(&DriftKind::Data) {
                let features: Vec<String> = drift
                    .features
                    .iter()
                    .take(3)
                    .map(|feature| format!("{} {:.2}", feature.feature, feature.psi.get()))
                    .collect();
                parts.push(format!("data: PSI {}", features.join(", ")));
            }
            if let Some(target) = &drift.target {
                parts.push(format!(
                    "target: fraud rate {:.2} % -> {:.2} %",
                    target.reference_rate.get() * 100.0,
                    target.current_rate.get() * 100.0
                ));
            }
            format!("severity {}: {}", drift.severity, parts.join("; "))
        }
        Event::RetrainAsked(asked) => {
            format!("{} asks for a retraining: {}", asked.requested_by, asked.reason)
        }
        Event::RetrainRequested(requested) => {
            format!(
                "train, priority {} (trigger {}): {}",
                requested.priority, requested.trigger, requested.reason
            )
        }
        Event::RetrainDeclined(declined) => {
            let otherwise = declined
                .counterfactuals
                .first()
                .map(|counterfactual| format!("; would train if {}", counterfactual.change))
                .unwrap_or_default();
            format!(
                "declined ({}, trigger {}): {}{otherwise}",
                declined.reason, declined.trigger, declined.detail
            )
        }
        Event::TrainingStarted(started) => format!(
            "run begins on backend {} (attempt {})",
            started.backend, started.attempt
        ),
        Event::TrainingFailed(failed) => format!("no model ({}): {}", failed.failure.as_str(), failed.detail),
        Event::PromotionRefused(refused) => {
            format!(
                "{} was NOT promoted ({}): {}",
                refused.version,
                refused.reason.as_str(),
                refused.detail
            )
        }
        Event::ModelTrained(trained) => format!(
            "candidate {}: {} on {} rows ({} frauds) of {}, threshold {:.3}, {:.1} s",
            trained.version,
            trained.algorithm,
            trained.training_rows,
            trained.training_frauds,
            trained.training_window,
            trained.operating_threshold.get(),
            trained.duration_seconds.get()
        ),
        Event::ModelValidated(validated) => {
            let value = |name: &str| {
                validated
                    .metrics
                    .iter()
                    .find(|metric| metric.name == name)
                    .and_then(|metric| metric.value)
                    .map_or_else(|| "-".to_owned(), |value| format!("{:.3}", value.get()))
            };
            let figures = format!(
                "recall {}, precision {}, average precision {} on {} held-out rows ({} frauds)",
                value("recall"),
                value("precision"),
                value("average_precision"),
                validated.rows,
                validated.frauds
            );
            match validated.verdict {
                ValidationVerdict::Passed => format!("passed: {figures}"),
                ValidationVerdict::Failed => format!("FAILED: {}; {figures}", validated.failures.join("; ")),
            }
        }
        Event::ModelPromoted(promoted) => {
            let previous = promoted.previous.as_ref().map_or_else(
                || "the first champion".to_owned(),
                |previous| format!("replaces {previous}"),
            );
            format!("{} is champion, {previous}", promoted.version)
        }
        Event::AlertSent(alert) => format!(
            "{} to {}: {}",
            alert.channel.as_str(),
            alert.recipient,
            alert.subject
        ),
        Event::AlertFailed(alert) => {
            format!(
                "{} to {} failed: {} ({})",
                alert.channel.as_str(),
                alert.recipient,
                alert.reason,
                alert.subject
            )
        }
    }
}

const fn word(kind: DriftKind) -> &'static str {
    match kind {
        DriftKind::Data => "data",
        DriftKind::Target => "target",
        DriftKind::Concept => "concept",
    }
}
