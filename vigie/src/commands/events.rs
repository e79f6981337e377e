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

/// Follows events, one line each.
pub async fn tail(output: Output, args: TailArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
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
                println!("{}", line(output, &received)?);
            }
            Err(refusal) => eprintln!("{}: {refusal}", message.subject),
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
            attributes.model,
            describe(&received.event)
        )),
    }
}

fn describe(event: &Event) -> String {
    narrate::sentence(event)
}
