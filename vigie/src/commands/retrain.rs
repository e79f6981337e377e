//! `vigie retrain`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use chassis::Sources;
use chrono::Utc;
use schemas::events::{RetrainAsked, RuleOutcome, RuleResult};
use schemas::{Event, EventKind};

use crate::cli::{Output, RetrainArgs};
use crate::operator::{self, Operator, who};
use crate::output::{self, one_line};

/// Asks for a retraining and shows the decision.
pub async fn run(output: Output, args: RetrainArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
    if args.reason.trim().is_empty() {
        let why = "`--reason` must not be empty: it is what people read in the record and in the alert";
        return Err(output::Usage(why.to_owned()).into());
    }
    operator::check_wish(sources, &args.model, args.as_of, Utc::now())?;
    let operator = Operator::connect(sources).await?;
    let body = RetrainAsked {
        as_of: args.as_of.unwrap_or_else(Utc::now),
        requested_by: who(),
        reason: args.reason,
        force: args.force,
    };
    let answers = [EventKind::RetrainRequested, EventKind::RetrainDeclined];
    let answer = operator
        .ask(&args.model, body, &answers, Duration::from_secs(args.timeout))
        .await?;
    match &answer.event {
        Event::RetrainRequested(requested) => {
            output::print(output, requested, |requested| {
                let mut text = format!(
                    "decision {}: TRAIN model {} (priority {}): {}\n",
                    requested.decision_id,
                    one_line(args.model.as_str()),
                    requested.priority,
                    one_line(&requested.reason)
                );
                rules(&mut text, &requested.rules);
                text.push_str("follow it with: vigie events tail");
                text
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Event::RetrainDeclined(declined) => {
            output::print(output, declined, |declined| {
                let mut text = format!(
                    "decision {}: DECLINED for model {} ({}): {}\n",
                    declined.decision_id,
                    one_line(args.model.as_str()),
                    declined.reason,
                    one_line(&declined.detail)
                );
                rules(&mut text, &declined.rules);
                for counterfactual in &declined.counterfactuals {
                    let _ = writeln!(text, "  would train if {}", one_line(&counterfactual.change));
                }
                text
            })?;
            Ok(ExitCode::from(2))
        }
        other => bail!("expected a decision, got {}", other.kind()),
    }
}

fn rules(text: &mut String, rules: &[RuleOutcome]) {
    for rule in rules {
        let word = match rule.result {
            RuleResult::Passed => "ok",
            RuleResult::Blocked => "BLOCKS",
            RuleResult::Bypassed => "bypassed",
            RuleResult::NotApplicable => "-",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {:<22} {word:<9} {}",
            one_line(&rule.rule),
            one_line(&rule.detail)
        );
    }
}
