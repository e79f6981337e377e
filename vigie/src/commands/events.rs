//! `vigie events tail`.

use std::process::ExitCode;

use anyhow::Context as _;
use async_nats::jetstream::consumer::DeliverPolicy;
use chassis::Sources;
use futures_util::StreamExt as _;
use schemas::{Event, EventKind, Received};

use crate::cli::{Output, TailArgs};
use crate::demo::narrate;
use crate::operator::{Operator, decode};
use crate::output::{self, Usage, one_line};

/// Follows events, one line each.
pub async fn tail(output: Output, args: TailArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
    check_pattern(&args.subject)?;
    let operator = Operator::connect(sources).await?;
    let from = match args.since {
        None => DeliverPolicy::New,
        Some(start_time) => DeliverPolicy::ByStartTime { start_time },
    };
    let subjects: Vec<String> = if args.subject == ">" {
        EventKind::ALL
            .iter()
            .map(|kind| kind.subject().to_owned())
            .collect()
    } else {
        vec![args.subject.clone()]
    };
    let mut messages = operator.follow(from, subjects).await?;
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        let Some(message) = messages.next().await else {
            break;
        };
        let message = message.context("read events")?;
        match decode(&message) {
            Ok(received) => {
                if args
                    .model
                    .as_ref()
                    .is_some_and(|model| *model != received.attributes.model)
                {
                    continue;
                }
                output::say(&line(output, &received)?)?;
            }
            Err(refusal) => eprintln!("{}", one_line(&format!("{}: {refusal}", message.subject))),
        }
        shown += 1;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(output: Output, received: &Received) -> anyhow::Result<String> {
    let attributes = &received.attributes;
    match output {
        Output::Json => {
            let data: serde_json::Value = serde_json::from_slice(&received.event.to_json()?)?;
            Ok(serde_json::json!({
                "id": attributes.id,
                "type": attributes.kind.ce_type(),
                "source": attributes.source,
                "time": attributes.time,
                "model": attributes.model,
                "correlation_id": attributes.correlation_id,
                "causation_id": attributes.causation_id,
                "trace_id": attributes.trace.trace_id(),
                "data": data,
            })
            .to_string())
        }
        Output::Text => Ok(format!(
            "{} {:<21} {:<16} {}",
            attributes.time.format("%H:%M:%S%.3f"),
            attributes.kind,
            one_line(attributes.model.as_str()),
            one_line(&describe(&received.event))
        )),
    }
}

fn describe(event: &Event) -> String {
    narrate::sentence(event)
}

/// A pattern that no event can match would wait for ever.
fn check_pattern(pattern: &str) -> Result<(), Usage> {
    let words: Vec<&str> = pattern.split('.').collect();
    let well_formed = words.iter().enumerate().all(|(at, word)| {
        let wildcard = word.contains(['*', '>']);
        let last = at + 1 == words.len();
        !word.is_empty()
            && !word.contains(|c: char| c.is_whitespace() || c.is_control())
            && (!wildcard || *word == "*" || (*word == ">" && last))
    });
    if !well_formed {
        return Err(Usage(format!(
            "`--subject` is `{pattern}`; expected words with dots between them, `*` for any one word, `>` for the rest, \
             e.g. `drift.>`"
        )));
    }
    let matches = |subject: &str| {
        let mut subject = subject.split('.');
        let each = words.iter().all(|word| match *word {
            ">" => subject.by_ref().count() > 0,
            "*" => subject.next().is_some(),
            word => subject.next() == Some(word),
        });
        each && subject.next().is_none()
    };
    if EventKind::ALL.iter().any(|kind| matches(kind.subject())) {
        return Ok(());
    }
    let known: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.subject()).collect();
    Err(Usage(format!(
        "`--subject` is `{pattern}`, which no event has; there are {}",
        known.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_no_event_can_match_are_refused() {
        for good in [
            ">",
            "drift.>",
            "*.checked",
            "drift.check.requested",
            "drift.*.requested",
        ] {
            assert!(check_pattern(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "drift..checked",
            "drift.",
            "dri*",
            "> .x",
            ">.drift",
            "drift checked",
        ] {
            let refused = check_pattern(bad).unwrap_err().to_string();
            assert!(refused.contains("e.g. `drift.>`"), "{bad}: {refused}");
        }
        for strange in ["drift", "drift.cheked", "drift.checked.>", "orders.>"] {
            let refused = check_pattern(strange).unwrap_err().to_string();
            assert!(refused.contains("drift.checked"), "{strange}: {refused}");
        }
    }
}
