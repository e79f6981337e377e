//! What the ledgers of everybody outside say: Databricks, MLflow, mail, Slack, and the logs.

use std::collections::{BTreeMap, HashMap, HashSet};

use local_stack::peers::databricks::RunRecord;
use uuid::Uuid;

use super::{Findings, some, texts};
use crate::faults::fleet::log_of;
use crate::faults::producer::Ledger;
use crate::faults::settle::Settled;
use crate::faults::world::World;

fn parameter<'a>(run: &'a RunRecord, key: &str) -> &'a str {
    run.request["tasks"][0]["notebook_task"]["base_parameters"][key]
        .as_str()
        .unwrap_or_default()
}

/// The decision that a run belongs to.
pub(super) fn decision_of(run: &RunRecord) -> &str {
    parameter(run, "vigie_decision_id")
}

/// The idempotency token of an attempt, as the trainer derives it.
fn token_of(job: Uuid, attempt: i32) -> String {
    let bytes = [job.as_bytes().as_slice(), &attempt.to_be_bytes()].concat();
    scoring::digest_of(&bytes).as_str().to_owned()
}

pub(super) async fn decisions(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
    let pool = &world.pool;
    let twice = texts(
        pool,
        "select cause from retrain_decider.trigger group by model, cause having count(*) > 1".to_owned(),
    )
    .await?;
    if !twice.is_empty() {
        findings.add("I3", format!("causes decided more than once: {}", some(&twice)));
    }
    let twice = texts(
        pool,
        "select convert_from(data, 'UTF8')::jsonb ->> 'decision_id' from retrain_decider.outbox \
         where subject = 'retrain.requested' group by 1 having count(*) > 1"
            .to_owned(),
    )
    .await?;
    if !twice.is_empty() {
        findings.add(
            "I3",
            format!("decisions asked for more than once: {}", some(&twice)),
        );
    }
    let attempts: HashMap<String, (Uuid, i32)> = sqlx::query_as::<_, (String, Uuid, i32)>(
        "select decision_id::text, job_id, attempt from trainer_bridge.training_job",
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(|(decision, job, attempt)| (decision, (job, attempt)))
    .collect();
    let recorded = world.databricks.runs();
    findings.counts.runs = recorded.len();
    let mut runs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for run in &recorded {
        let token = run.token.as_deref().unwrap_or_default();
        *runs.entry((decision_of(run), token)).or_default() += 1;
    }
    let (mut doubled, mut strange) = (Vec::new(), Vec::new());
    for ((decision, token), runs) in runs {
        if runs > 1 {
            doubled.push(decision.to_owned());
        }
        let of_an_attempt = attempts
            .get(decision)
            .is_some_and(|(job, attempt)| (1..=*attempt).any(|attempt| token_of(*job, attempt) == token));
        if !of_an_attempt {
            strange.push(decision.to_owned());
        }
    }
    if !doubled.is_empty() {
        findings.add(
            "I3",
            format!("attempts with two external runs: {}", some(&doubled)),
        );
    }
    if !strange.is_empty() {
        findings.add("I3", format!("external runs of no attempt: {}", some(&strange)));
    }
    Ok(())
}

pub(super) async fn promotions(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
    let pool = &world.pool;
    let rows: Vec<(String, i64, String, Option<String>)> = sqlx::query_as(
        "select p.model, p.fence, p.version, v.registry_version from trainer_bridge.promotion p \
         join trainer_bridge.model_version v on v.version = p.version where p.state = 'promoted' order by p.ended_at",
    )
    .fetch_all(pool)
    .await?;
    let mut last: BTreeMap<String, (i64, String, Option<String>)> = BTreeMap::new();
    for (model, fence, version, number) in rows {
        if let Some((before, ..)) = last.get(&model)
            && *before >= fence
        {
            findings.add(
                "I4",
                format!("model {model}: fence {fence} was promoted after {before}"),
            );
        }
        last.insert(model, (fence, version, number));
    }
    let said = texts(
        pool,
        "select convert_from(data, 'UTF8')::jsonb ->> 'version' from trainer_bridge.outbox \
         where subject = 'model.promoted' group by 1 having count(*) > 1"
            .to_owned(),
    )
    .await?;
    if !said.is_empty() {
        findings.add("I4", format!("versions promoted more than once: {}", some(&said)));
    }
    for (model, (_, version, number)) in &last {
        let champion = texts(
            pool,
            format!("select coalesce(champion, '') from trainer_bridge.model where model = '{model}'"),
        )
        .await?;
        if champion.first() != Some(version) {
            findings.add(
                "I4",
                format!("champion of {model} is {champion:?}, last promoted was {version}"),
            );
        }
        let alias = world
            .tracking
            .alias(model, "champion")
            .map(|number| number.to_string());
        if alias != *number {
            findings.add(
                "I4",
                format!(
                    "alias of {model} is at {alias:?}, last promoted was {version}, registered as {number:?}"
                ),
            );
        }
    }
    Ok(())
}

/// What MLflow's own ledger says of its alias.
pub(super) async fn pointings(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
    let rows: Vec<(String, String, bool)> = sqlx::query_as(
        "select p.model, coalesce(v.registry_version, ''), p.state = 'promoted' from trainer_bridge.promotion p \
         join trainer_bridge.model_version v on v.version = p.version order by p.model, p.fence",
    )
    .fetch_all(&world.pool)
    .await?;
    let mut pointed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for set in world.tracking.alias_sets() {
        pointed
            .entry(set.model)
            .or_default()
            .push(set.version.to_string());
    }
    let mut intended: BTreeMap<&str, Vec<(&str, bool)>> = BTreeMap::new();
    for (model, number, promoted) in &rows {
        intended.entry(model).or_default().push((number, *promoted));
    }
    for (model, sets) in &pointed {
        let known = intended.get(model.as_str()).map_or(&[][..], Vec::as_slice);
        let strangers: Vec<String> = sets
            .iter()
            .filter(|number| !known.iter().any(|(known, _)| known == number))
            .cloned()
            .collect();
        if !strangers.is_empty() {
            findings.add(
                "I4",
                format!(
                    "alias of {model} was pointed at what was never to be promoted: {}",
                    some(&strangers)
                ),
            );
        }
        let distinct: HashSet<&String> = sets.iter().collect();
        findings.counts.pointed_again += sets.len() - distinct.len();
    }
    for (model, known) in &intended {
        let sets = pointed.get(*model).map_or(&[][..], Vec::as_slice);
        // In the order of the fences, each for the first time after the one before.
        let mut before = None;
        for (number, _) in known.iter().filter(|(_, promoted)| *promoted) {
            let first = sets.iter().position(|set| set == number);
            if first.is_none() {
                findings.add(
                    "I4",
                    format!("{model} {number} was promoted, and its alias never pointed at it"),
                );
            } else if first <= before {
                findings.add(
                    "I4",
                    format!("alias of {model} was pointed at {number} out of order"),
                );
            }
            before = first.or(before);
        }
    }
    Ok(())
}

pub(super) async fn alerts(
    world: &World,
    ledger: &Ledger,
    settled: &Settled,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let rows: Vec<(String, Uuid, String, String, i32)> =
        sqlx::query_as(
            "select alert_id::text, event_id, channel, state, attempts from notifier.alert where created_at <= $1",
        )
        .bind(settled.at)
        .fetch_all(&world.pool)
            .await?;
    let mails = world.smtp.delivered()?;
    let mut told: HashMap<String, usize> = HashMap::new();
    for mail in &mails {
        let id = mail.header("Message-ID").unwrap_or_default().to_owned();
        *told
            .entry(
                id.trim_matches(['<', '>'])
                    .split('@')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            )
            .or_default() += 1;
    }
    for message in world.slack.shown() {
        let text = message.to_string();
        let ids = text
            .match_indices("alert ")
            .map(|(at, word)| text[at + word.len()..].chars().take(36));
        if let Some(id) = ids
            .map(Iterator::collect::<String>)
            .find(|id| Uuid::parse_str(id).is_ok())
        {
            *told.entry(format!("slack {id}")).or_default() += 1;
        }
    }
    let mut channels: HashMap<Uuid, HashSet<String>> = HashMap::new();
    for (alert, event, channel, state, attempts) in &rows {
        channels.entry(*event).or_default().insert(channel.clone());
        let key = if channel == "slack" {
            format!("slack {alert}")
        } else {
            alert.clone()
        };
        let times = told.get(&key).copied().unwrap_or(0);
        if state != "sent" {
            findings.add("I5", format!("alert {alert} by {channel} is {state}"));
        } else if times == 0 {
            findings.add(
                "I5",
                format!("alert {alert} by {channel} is recorded as told and nobody was"),
            );
        } else if times > usize::try_from(*attempts)? {
            findings.add(
                "I5",
                format!("alert {alert} by {channel} was told {times} times in {attempts} attempts"),
            );
        }
        findings.counts.alerts += usize::from(times > 0);
        findings.counts.told_twice += times.saturating_sub(1);
    }
    let untold = ledger
        .commits()
        .iter()
        .filter(|commit| {
            channels
                .get(&commit.id.uuid())
                .is_none_or(|channels| channels.len() < 2)
        })
        .count();
    if untold > 0 {
        findings.add("I5", format!("{untold} drifts were not told by both channels"));
    }
    Ok(())
}

/// What people and MLflow were told.
pub(super) fn posts(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
    let canaries = world.canaries();
    if world
        .smtp
        .attempts()?
        .iter()
        .any(|mail| canaries.are_in(&mail.raw))
    {
        findings.add("I11", "a mail holds a secret");
    }
    if world
        .slack
        .shown()
        .iter()
        .any(|post| canaries.are_in(&post.to_string()))
    {
        findings.add("I11", "a post in Slack holds a secret");
    }
    let requests = world.databricks.runs();
    if requests
        .iter()
        .any(|run| canaries.are_in(&run.request.to_string()))
    {
        findings.add("I11", "a request of a run holds a secret");
    }
    if canaries.are_in(&format!("{:?}", world.tracking.runs())) {
        findings.add("I11", "a run in MLflow holds a secret");
    }
    Ok(())
}

/// Most lines a second of one replica, over any ten seconds.
const LINES_PER_SECOND_MAX: usize = 100;

pub(super) fn logs(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
    let canaries = world.canaries();
    for replica in world.fleet.replicas() {
        let path = log_of(world.folder.path(), replica);
        let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        let name = format!("{} {}", replica.service, replica.number);
        if canaries.are_in(&text) {
            findings.add("I11", format!("the log of {name} holds a secret"));
        }
        let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
        for line in text.lines() {
            // `2026-11-28T04:03:1`: ten seconds.
            if let Some(ten) = line.get(..18).filter(|ten| ten.starts_with("20")) {
                *lines.entry(ten).or_default() += 1;
            }
        }
        if let Some((when, count)) = lines.iter().max_by_key(|(_, count)| **count)
            && count / 10 > LINES_PER_SECOND_MAX
        {
            findings.add(
                "I11",
                format!("{name} wrote {count} lines in the ten seconds from {when}0"),
            );
        }
        if text.contains("panicked at") {
            let line = text
                .lines()
                .find(|line| line.contains("panicked at"))
                .unwrap_or_default();
            findings.add("I11", format!("{name} panicked: {line}"));
        }
    }
    Ok(())
}
