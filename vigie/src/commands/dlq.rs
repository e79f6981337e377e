//! `vigie dlq`: what cannot be handled, and what a person does about it.

use std::fmt::Write as _;
use std::process::ExitCode;

use chassis::Sources;
use chassis::redrive::{self, Because, Decision, Letter};
use uuid::Uuid;

use crate::cli::{DlqCommand, DlqDecideArgs, DlqListArgs, Output};
use crate::operator::{Operator, who};
use crate::output::{self, Usage, one_line, several_lines};

/// Bytes of a body that are shown to people.
const SHOWN_BYTES_MAX: usize = 4_096;

/// Runs a command about dead letters.
pub async fn run(output: Output, command: DlqCommand, sources: &Sources) -> anyhow::Result<ExitCode> {
    match command {
        DlqCommand::List(args) => list(output, &args, sources).await,
        DlqCommand::Show { id } => show(output, id, sources).await,
        DlqCommand::Redrive(args) => decide(output, &args, Decision::Redrive, sources).await,
        DlqCommand::Discard(args) => decide(output, &args, Decision::Discard, sources).await,
    }
}

async fn list(output: Output, args: &DlqListArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(sources).await?;
    let limit = i64::try_from(args.limit).unwrap_or(i64::MAX);
    let letters = redrive::letters(operator.pool(), args.all, limit).await?;
    output::print(output, &letters, |letters| table(letters))?;
    Ok(ExitCode::SUCCESS)
}

async fn show(output: Output, id: Uuid, sources: &Sources) -> anyhow::Result<ExitCode> {
    let operator = Operator::connect(sources).await?;
    let letters = redrive::find(operator.pool(), id).await?;
    if letters.is_empty() {
        anyhow::bail!(
            "there is no dead letter or parked event {id}; `vigie dlq list` shows those that there are"
        );
    }
    let shown: Vec<serde_json::Value> = letters
        .iter()
        .map(|letter| {
            let mut value = serde_json::to_value(letter)?;
            value["body"] = body(&letter.data).into();
            Ok(value)
        })
        .collect::<Result<_, serde_json::Error>>()?;
    output::print(output, &shown, |_| {
        letters.iter().map(whole).collect::<Vec<_>>().join("\n\n")
    })?;
    Ok(ExitCode::SUCCESS)
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
    let operator = Operator::connect(sources).await?;
    let by = who();
    let mut decided = Vec::new();
    for id in &args.ids {
        let because = Because { by: &by, why };
        decided.push(redrive::decide(operator.pool(), *id, decision, because).await?);
    }
    // What an operator said goes out again from here; what a service said, from there.
    operator.publish_recorded().await?;
    output::print(output, &decided, |letters| {
        let lines = letters.iter().map(|letter| {
            format!(
                "{} {} ({}, {})",
                letter.state, letter.dead_letter_id, letter.consumer, letter.reason_class
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
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

fn whole(letter: &Letter) -> String {
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
        body(&letter.data)
    );
    text
}

fn body(data: &[u8]) -> String {
    let shown = &data[..data.len().min(SHOWN_BYTES_MAX)];
    let lossy = String::from_utf8_lossy(shown);
    let mut text = several_lines(&lossy);
    if shown.len() < data.len() {
        let _ = write!(text, "\n… and {} more bytes", data.len() - shown.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_bytes_do_nothing_to_a_terminal() {
        assert_eq!(one_line("a\u{1b}[2Jb\r\nc"), "a\\u{1b}[2Jb\\r\\nc");
        assert_eq!(body(b"{\n\t\"a\": \x1b\xff}"), "{\n\t\"a\": \\u{1b}\u{fffd}}");
        let long = body(&vec![b'x'; SHOWN_BYTES_MAX + 7]);
        assert!(long.ends_with("… and 7 more bytes"));
    }
}
