//! `vigie models at`: who was champion when.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chassis::Sources;
use chassis::settings::nearest;
use chrono::{DateTime, Utc};
use serde::Serialize;
use trainer_bridge::store::champion::{self, Reign};

use crate::cli::{ModelsAtArgs, Output};
use crate::operator;
use crate::output::{self, Usage, one_line};

#[derive(Debug, Serialize)]
struct Answer {
    at: DateTime<Utc>,
    champions: Vec<Reign>,
    /// Models that had no champion yet, each with its first.
    before_their_first: Vec<Reign>,
}

/// Shows the champions of an instant.
pub async fn at(output: Output, args: &ModelsAtArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
    let pool = operator::database(sources).await?;
    let mut reigns = champion::reigns(&pool, None)
        .await
        .context("read the promotions of trainer-bridge")?;
    if reigns.is_empty() {
        bail!("no promotion is on record in this database (setting `database.url`)");
    }
    if let Some(model) = &args.model {
        let mut known: Vec<String> = reigns.iter().map(|reign| reign.model.clone()).collect();
        known.dedup();
        reigns.retain(|reign| reign.model == model.as_str());
        if reigns.is_empty() {
            let hint = match nearest(model.as_str(), &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("those that have had a champion are {}", known.join(", ")),
            };
            return Err(Usage(format!("model `{model}` has never had a champion; {hint}")).into());
        }
    }
    let answer = answer(args.at, &reigns);
    output::print(output, &answer, describe)?;
    Ok(ExitCode::SUCCESS)
}

/// `reigns` are by model, oldest first.
fn answer(at: DateTime<Utc>, reigns: &[Reign]) -> Answer {
    let (mut champions, mut before_their_first): (Vec<Reign>, Vec<Reign>) = (Vec::new(), Vec::new());
    for model in reigns.chunk_by(|a, b| a.model == b.model) {
        match model.iter().rfind(|reign| reign.effective_from <= at) {
            Some(champion) => champions.push(champion.clone()),
            None => before_their_first.extend(model.first().cloned()),
        }
    }
    Answer {
        at,
        champions,
        before_their_first,
    }
}

fn describe(answer: &Answer) -> String {
    let mut text = format!("champions at {} UTC:\n", shown(answer.at));
    // Writing to a String cannot fail.
    for reign in &answer.champions {
        let until = reign
            .until
            .map_or_else(|| "now".to_owned(), |until| format!("{} UTC", shown(until)));
        let _ = writeln!(
            text,
            "{}: {}\n  in force   {} UTC until {until}\n  sha256     {}\n  promotion  event {}{}",
            one_line(&reign.model),
            one_line(&reign.version),
            shown(reign.effective_from),
            reign.sha256,
            reign.promotion_event_id,
            if reign.on_record {
                ""
            } else {
                " (older than the event log; from the registry's table)"
            }
        );
        if let Some(other) = reign
            .registered_sha256
            .as_ref()
            .filter(|other| **other != reign.sha256)
        {
            let _ = writeln!(
                text,
                "  WARNING    the registry's table has the digest {other} now; see `vigie audit verify`"
            );
        }
    }
    for reign in &answer.before_their_first {
        let _ = writeln!(
            text,
            "{}: none yet; the first, {}, came into force {} UTC",
            one_line(&reign.model),
            one_line(&reign.version),
            shown(reign.effective_from)
        );
    }
    text
}

fn shown(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
