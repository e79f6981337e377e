//! `vigie dlq`: what cannot be handled, and what a person does about it.
//!
//! Letters are in PostgreSQL: they can be looked at and decided about while the broker is away.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chassis::Sources;
use chassis::redrive::{self, Because, Decision, Letter, Which};
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use crate::cli::{DlqCommand, DlqDecideArgs, DlqListArgs, DlqWhich, Output};
use crate::operator::{self, Operator, who};
use crate::output::{self, Usage, one_line, several_lines};

/// Bytes of a body that are shown to people unless they ask for all.
const SHOWN_BYTES_MAX: usize = 4_096;

/// Runs a command about dead letters.
pub async fn run(output: Output, command: DlqCommand, sources: &Sources) -> anyhow::Result<ExitCode> {
    match command {
        DlqCommand::List(args) => list(output, &args, sources).await,
        DlqCommand::Show { id, full } => show(output, id, full, sources).await,
        DlqCommand::Redrive(args) => decide(output, &args, Decision::Redrive, sources).await,
        DlqCommand::Discard(args) => decide(output, &args, Decision::Discard, sources).await,
    }
}

fn which(common: &DlqWhich, all: bool) -> Which {
    Which {
        all,
        consumer: common.service.clone(),
        class: common.class.clone(),
        model: common.model.clone(),
    }
}

/// The letters, and a word on standard error when there are more.
async fn some(pool: &PgPool, which: &Which, limit: u64) -> anyhow::Result<Vec<Letter>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let one_more = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    let mut letters = redrive::letters(pool, which, one_more).await?;
    if letters.len() > limit {
        letters.truncate(limit);
        eprintln!("there are more than these {limit}; `--limit` shows them");
    }
    Ok(letters)
}

async fn list(output: Output, args: &DlqListArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
    let pool = operator::database(sources).await?;
    let letters = some(&pool, &which(&args.which, args.all), args.limit).await?;
    output::print(output, &letters, |letters| table(letters))?;
    Ok(ExitCode::SUCCESS)
}

async fn show(output: Output, id: Uuid, full: bool, sources: &Sources) -> anyhow::Result<ExitCode> {
    let pool = operator::database(sources).await?;
    let letters = redrive::find(&pool, id).await?;
    if letters.is_empty() {
        anyhow::bail!(
            "there is no dead letter or parked event {id}; `vigie dlq list` shows those that there are"
        );
    }
    let shown: Vec<serde_json::Value> = letters
        .iter()
        .map(|letter| {
            let mut value = serde_json::to_value(letter)?;
            match std::str::from_utf8(&letter.data) {
                Ok(text) => value["body"] = text.into(),
                Err(_) => value["body_base64"] = STANDARD.encode(&letter.data).into(),
            }
            Ok(value)
        })
        .collect::<Result<_, serde_json::Error>>()?;
    let bytes_max = if full { usize::MAX } else { SHOWN_BYTES_MAX };
    output::print(output, &shown, |_| {
        let shown = letters.iter().map(|letter| whole(letter, bytes_max));
        shown.collect::<Vec<_>>().join("\n\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What became of a letter.
#[derive(Debug, Serialize)]
struct Dealt {
    dead_letter_id: Uuid,
    /// `redriven`, `discarded`, `would be redriven`, `would be discarded` or `failed`.
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_class: Option<String>,
    /// Why nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Dealt {
    fn with(letter: &Letter, outcome: String) -> Self {
        Self {
            dead_letter_id: letter.dead_letter_id,
            outcome,
            consumer: Some(letter.consumer.clone()),
            reason_class: Some(letter.reason_class.clone()),
            error: None,
        }
    }

    fn describe(&self) -> String {
        let Self {
            dead_letter_id,
            outcome,
            ..
        } = self;
        match (&self.error, &self.consumer, &self.reason_class) {
            (Some(error), ..) => format!("{outcome} {dead_letter_id}: {}", one_line(error)),
            (None, Some(consumer), Some(class)) => {
                format!("{outcome} {dead_letter_id} ({consumer}, {class})")
            }
            _ => format!("{outcome} {dead_letter_id}"),
        }
    }
}

async fn decide(
    output: Output,
    args: &DlqDecideArgs,
    decision: Decision,
    sources: &Sources,
) -> anyhow::Result<ExitCode> {
    let why = args.reason.trim();
    if why.is_empty() {
        return Err(Usage("`--reason` is empty; say why, it is recorded".to_owned()).into());
    }
    match (args.ids.is_empty(), args.which == DlqWhich::default()) {
        (true, true) => {
            let needed = "which letters? Give their ids, or `--service`, `--class` or `--model`";
            return Err(Usage(needed.to_owned()).into());
        }
        (false, false) => {
            let either = "give ids, or what the letters have in common, not both";
            return Err(Usage(either.to_owned()).into());
        }
        _ => {}
    }
    let pool = operator::database(sources).await?;
    let ids = if args.ids.is_empty() {
        let letters = some(&pool, &which(&args.which, false), args.limit).await?;
        letters.iter().map(|letter| letter.dead_letter_id).collect()
    } else {
        args.ids.clone()
    };
    let (mut dealt, mut of_operator) = (Vec::new(), false);
    let pause = Duration::from_secs(1) / u32::try_from(args.per_second).unwrap_or(u32::MAX);
    for (number, id) in ids.iter().enumerate() {
        if args.dry_run {
            dealt.push(would(&pool, *id, decision).await?);
            continue;
        }
        if number > 0 {
            tokio::time::sleep(pause).await;
        }
        let by = who();
        let because = Because { by: &by, why };
        dealt.push(match redrive::decide(&pool, *id, decision, because).await {
            Ok(letter) => {
                of_operator |= decision == Decision::Redrive && letter.is_of_operator();
                Dealt::with(&letter, letter.state.clone())
            }
            Err(error) => failed(*id, format!("{error:#}")),
        });
    }
    output::print(output, &dealt, |dealt| match dealt.as_slice() {
        [] => "no such dead letters".to_owned(),
        all => all.iter().map(Dealt::describe).collect::<Vec<_>>().join("\n"),
    })?;
    // What a service said goes out again from there; what an operator said, from here.
    if of_operator && let Err(error) = publish(sources).await {
        eprintln!(
            "what an operator asked for goes out with the next command that asks for something: {error:#}"
        );
    }
    Ok(if dealt.iter().all(|letter| letter.error.is_none()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn publish(sources: &Sources) -> anyhow::Result<()> {
    Operator::connect(sources).await?.publish_recorded().await
}

fn failed(dead_letter_id: Uuid, error: String) -> Dealt {
    Dealt {
        dead_letter_id,
        outcome: "failed".to_owned(),
        consumer: None,
        reason_class: None,
        error: Some(error),
    }
}

async fn would(pool: &PgPool, id: Uuid, decision: Decision) -> anyhow::Result<Dealt> {
    let found = redrive::find(pool, id).await?;
    let letter = found.iter().find(|letter| letter.dead_letter_id == id);
    let verb = match decision {
        Decision::Redrive => "would be redriven:",
        Decision::Discard => "would be discarded:",
    };
    Ok(match letter {
        Some(letter) if letter.state == "parked" => Dealt::with(letter, verb.to_owned()),
        Some(letter) => failed(id, format!("it was {} before", letter.state)),
        None => failed(id, format!("there is no dead letter {id}")),
    })
}

fn table(letters: &[Letter]) -> String {
    if letters.is_empty() {
        return "no dead letters".to_owned();
    }
    let mut text = format!(
        "{:<36}  {:<16} {:<16} {:<20} {:<9} reason",
        "letter", "parked (UTC)", "service", "class", "state"
    );
    for letter in letters {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n{}  {:<16} {:<16} {:<20} {:<9} {}",
            letter.dead_letter_id,
            letter.last_at.format("%Y-%m-%d %H:%M"),
            letter.consumer,
            letter.reason_class,
            letter.state,
            one_line(&letter.reason)
        );
    }
    text
}

fn whole(letter: &Letter, bytes_max: usize) -> String {
    let mut text = format!(
        "letter      {}\nevent       {}\nservice     {}\nsubject     {}\nclass       {}\nreason      {}\n\
         deliveries  {}\nparked      {} to {}\nstate       {}",
        letter.dead_letter_id,
        letter.event_id,
        letter.consumer,
        one_line(&letter.subject),
        letter.reason_class,
        one_line(&letter.reason),
        letter.deliveries,
        letter.first_at.format("%Y-%m-%d %H:%M:%S"),
        letter.last_at.format("%Y-%m-%d %H:%M:%S UTC"),
        letter.state,
    );
    if let (Some(by), Some(why)) = (&letter.decided_by, &letter.decision) {
        let _ = write!(text, " by {}: {}", one_line(by), one_line(why));
    }
    for (name, value) in letter.headers.as_object().into_iter().flatten() {
        let _ = write!(
            text,
            "\n  {}: {}",
            one_line(name),
            one_line(value.as_str().unwrap_or_default())
        );
    }
    let _ = write!(
        text,
        "\nbody, {} bytes:\n{}",
        letter.data.len(),
        body(&letter.data, bytes_max)
    );
    text
}

fn body(data: &[u8], bytes_max: usize) -> String {
    let shown = &data[..data.len().min(bytes_max)];
    let lossy = String::from_utf8_lossy(shown);
    let mut text = several_lines(&lossy);
    if shown.len() < data.len() {
        let _ = write!(
            text,
            "\n… and {} more bytes; `--full` shows them",
            data.len() - shown.len()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_bytes_do_nothing_to_a_terminal() {
        assert_eq!(one_line("a\u{1b}[2Jb\r\nc"), "a\\u{1b}[2Jb\\r\\nc");
        assert_eq!(
            body(b"{\n\t\"a\": \x1b\xff}", SHOWN_BYTES_MAX),
            "{\n\t\"a\": \\u{1b}\u{fffd}}"
        );
        let long = vec![b'x'; SHOWN_BYTES_MAX + 7];
        assert!(body(&long, SHOWN_BYTES_MAX).contains("… and 7 more bytes"));
        assert_eq!(body(&long, usize::MAX).len(), long.len());
    }
}
