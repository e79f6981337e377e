//! The invariants, read off the tables, the stream, the logs and the ledgers of everybody outside.
//!
//! | | |
//! | --- | --- |
//! | I1 | every acknowledged commit exists |
//! | I2 | every event has the receipt of each service that must read it; a parked one has its dead letter |
//! | I3 | one decision per trigger, one request per decision, one external run per decision and attempt |
//! | I4 | one promotion per version, fences that rise, the alias where the last promotion put it |
//! | I5 | every alert reached everybody, no more often than its answers were lost |
//! | I6 | everything ended, before its deadline, and stayed as it ended |
//! | I7 | every cause is an event that exists |
//! | I8 | the record of events is unbroken |
//! | I9 | nothing is in the stream that no service wrote |
//! | I10 | everything is published and confirmed in time after the last fault |
//! | I11 | no secret in any log, and no more than 100 lines a second of a service |
//! | I12 | every slot was done once and none was left out |

use std::collections::{BTreeMap, HashMap, HashSet};

use chassis::audit::Verdict;
use local_stack::peers::databricks::RunRecord;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;
use vigie::host::SERVICES;

use super::fleet::log_of;
use super::nemesis::{HOSTILE, messages};
use super::producer::Ledger;
use super::settle::{Settled, types_with_readers};
use super::world::{World, schema_of};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its name, such as `I3`.
    pub invariant: &'static str,
    /// What was found.
    pub detail: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

/// What was counted on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acknowledged commits.
    pub commits: usize,
    /// Decisions to retrain.
    pub decisions: i64,
    /// How decisions to retrain ended, count of each.
    pub ends: Vec<(String, i64)>,
    /// Runs that came to be on Databricks.
    pub runs: usize,
    /// Promotions.
    pub promotions: i64,
    /// Alerts that were told.
    pub alerts: usize,
    /// Messages that people saw more than once.
    pub told_twice: usize,
    /// Further deliveries of events that had taken effect.
    pub duplicates: i64,
    /// Parked messages.
    pub dead_letters: i64,
    /// Events that the sweep offered again.
    pub offered_again: i64,
}

/// Everything that was found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Invariants that do not hold.
    pub violations: Vec<Violation>,
    /// Counts.
    pub counts: Counts,
}

impl Findings {
    fn add(&mut self, invariant: &'static str, detail: impl Into<String>) {
        self.violations.push(Violation {
            invariant,
            detail: detail.into(),
        });
    }

    /// Whether an invariant was violated.
    pub fn violates(&self, invariant: &str) -> bool {
        self.violations
            .iter()
            .any(|violation| violation.invariant == invariant)
    }
}

/// Looks at everything.
///
/// # Errors
/// When something cannot be read.
pub async fn audit(world: &World, ledger: &Ledger, settled: &Settled) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let pool = &world.pool;
    commits(pool, ledger, &mut findings).await?;
    receipts(pool, settled, &mut findings).await?;
    decisions(world, &mut findings).await?;
    promotions(world, &mut findings).await?;
    alerts(world, ledger, settled, &mut findings).await?;
    ends(world, &mut findings).await?;
    causes(pool, &mut findings).await?;
    record(pool, &mut findings).await?;
    stream(world, &mut findings).await?;
    logs(world, &mut findings)?;
    slots(pool, &mut findings).await?;
    counts(pool, &mut findings).await?;
    if let Err(left) = &settled.took {
        findings.add("I6", format!("still under way: {left}"));
        findings.add("I10", "not everything was published, confirmed and ended in time");
    }
    Ok(findings)
}

async fn scalar(pool: &PgPool, query: String) -> anyhow::Result<i64> {
    let (count,): (i64,) = sqlx::query_as(AssertSqlSafe(query)).fetch_one(pool).await?;
    Ok(count)
}

async fn texts(pool: &PgPool, query: String) -> anyhow::Result<Vec<String>> {
    let rows: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(query)).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|(text,)| text).collect())
}

/// The first few of many, for a sentence.
fn some(all: &[String]) -> String {
    let shown: Vec<&str> = all.iter().take(3).map(String::as_str).collect();
    format!("{} ({})", all.len(), shown.join(", "))
}

async fn commits(pool: &PgPool, ledger: &Ledger, findings: &mut Findings) -> anyhow::Result<()> {
    let ids: Vec<Uuid> = ledger.commits().iter().map(|commit| commit.id.uuid()).collect();
    findings.counts.commits = ids.len();
    let lost: Vec<(Uuid,)> = sqlx::query_as(
        "select id from unnest($1::uuid[]) id where not exists \
         (select from drift_monitor.outbox o where o.event_id = id)",
    )
    .bind(&ids)
    .fetch_all(pool)
    .await?;
    if !lost.is_empty() {
        findings.add("I1", format!("{} acknowledged commits are not there", lost.len()));
    }
    Ok(())
}

async fn receipts(pool: &PgPool, settled: &Settled, findings: &mut Findings) -> anyhow::Result<()> {
    for (event_type, readers) in types_with_readers() {
        for publisher in SERVICES {
            for reader in readers {
                let at = settled.at.to_rfc3339();
                let (from, to) = (schema_of(publisher), schema_of(reader));
                let undelivered = texts(
                    pool,
                    format!(
                        "select event_id::text from {from}.outbox o where event_type = '{event_type}' \
                         and created_at <= '{at}' and not exists (select from {to}.inbox i where i.consumer = '{reader}' and i.event_id = o.event_id)"
                    ),
                )
                .await?;
                if !undelivered.is_empty() {
                    findings.add(
                        "I2",
                        format!(
                            "{event_type} of {publisher} without a receipt of {reader}: {}",
                            some(&undelivered)
                        ),
                    );
                }
            }
        }
    }
    for service in SERVICES {
        let schema = schema_of(service);
        let unexplained = scalar(
            pool,
            format!(
                "select count(*) from {schema}.inbox i where state = 'dead' and not exists \
                 (select from {schema}.dead_letter d where d.event_id = i.event_id)"
            ),
        )
        .await?;
        if unexplained > 0 {
            findings.add(
                "I2",
                format!("{unexplained} dead receipts of {service} have no dead letter"),
            );
        }
    }
    Ok(())
}

fn parameter<'a>(run: &'a RunRecord, key: &str) -> &'a str {
    run.request["tasks"][0]["notebook_task"]["base_parameters"][key]
        .as_str()
        .unwrap_or_default()
}

async fn decisions(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
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
    let attempts: HashMap<String, i32> = sqlx::query_as::<_, (String, i32)>(
        "select decision_id::text, attempt from trainer_bridge.training_job",
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .collect();
    let mut runs: BTreeMap<&str, usize> = BTreeMap::new();
    let recorded = world.databricks.runs();
    for run in &recorded {
        *runs.entry(parameter(run, "vigie_decision_id")).or_default() += 1;
    }
    findings.counts.runs = recorded.len();
    for (decision, runs) in runs {
        let allowed = attempts.get(decision).copied().unwrap_or(0);
        if runs > usize::try_from(allowed)? {
            findings.add(
                "I3",
                format!("decision {decision} has {runs} external runs in {allowed} attempts"),
            );
        }
    }
    Ok(())
}

async fn promotions(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
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

async fn alerts(
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

async fn ends(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
    let pool = &world.pool;
    world.watch.look(pool).await?;
    for change in world.watch.changed() {
        findings.add("I6", change);
    }
    let late = scalar(
        pool,
        "select count(*) from trainer_bridge.training_job where reported_at > deadline + interval '60 seconds' \
         or (state <> 'reported' and deadline < clock_timestamp())"
            .to_owned(),
    )
    .await?;
    if late > 0 {
        findings.add("I6", format!("{late} training jobs ended after their deadline"));
    }
    // Whatever was reported has one end, and one event that says which.
    let odd = texts(
        pool,
        "select j.job_id::text from trainer_bridge.training_job j where state = 'reported' and 1 <> \
         (select count(*) from trainer_bridge.outbox o where o.subject in ('model.trained', 'training.failed') \
          and convert_from(o.data, 'UTF8')::jsonb ->> 'job_id' = j.job_id::text)"
            .to_owned(),
    )
    .await?;
    if !odd.is_empty() {
        findings.add(
            "I6",
            format!("training jobs without exactly one end: {}", some(&odd)),
        );
    }
    Ok(())
}

async fn causes(pool: &PgPool, findings: &mut Findings) -> anyhow::Result<()> {
    let all: Vec<String> = SERVICES
        .iter()
        .map(|service| {
            format!(
                "select event_id, causation_id from {}.outbox where subject not like 'dead.%'",
                schema_of(service)
            )
        })
        .collect();
    let all = all.join(" union all ");
    let dangling = texts(
        pool,
        format!(
            "with said as ({all}) select event_id::text from said where causation_id is not null \
             and causation_id not in (select event_id from said)"
        ),
    )
    .await?;
    if !dangling.is_empty() {
        findings.add(
            "I7",
            format!("events whose cause does not exist: {}", some(&dangling)),
        );
    }
    Ok(())
}

/// The chain of every service, and that everything that was said or received is in it.
async fn record(pool: &PgPool, findings: &mut Findings) -> anyhow::Result<()> {
    for service in SERVICES {
        let schema = schema_of(service);
        match chassis::audit::verify(pool, &schema, &[]).await? {
            Verdict::Intact { .. } => {}
            broken @ Verdict::Broken { .. } => {
                findings.add("I8", format!("the record of {service}: {broken:?}"));
            }
        }
        let unsaid = scalar(
            pool,
            format!(
                "select count(*) from {schema}.outbox o where subject not like 'dead.%' and not exists \
                 (select from {schema}.event_log l where l.what = 'said' and l.event_id = o.event_id)"
            ),
        )
        .await?;
        let unread = scalar(
            pool,
            format!(
                "select count(*) from {schema}.inbox i where state = 'done' and 1 <> (select count(*) \
                 from {schema}.event_log l where l.what = 'received' and l.event_id = i.event_id)"
            ),
        )
        .await?;
        if unsaid + unread > 0 {
            findings.add(
                "I8",
                format!("the record of {service} lacks {unsaid} events and {unread} receipts"),
            );
        }
    }
    Ok(())
}

async fn stream(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
    let all: Vec<String> = SERVICES
        .iter()
        .map(|service| format!("select event_id::text from {}.outbox", schema_of(service)))
        .collect();
    let known: HashSet<String> = texts(&world.pool, all.join(" union all "))
        .await?
        .into_iter()
        .collect();
    let mut forged = Vec::new();
    for message in messages(&world.stack.nats_url()).await? {
        let headers = message.headers.as_ref();
        let header = |name: &str| {
            headers
                .and_then(|headers| headers.get(name))
                .map(ToString::to_string)
        };
        if header(HOSTILE).is_some() {
            continue;
        }
        let id = header("ce-id").unwrap_or_default();
        if !known.contains(&id) {
            forged.push(format!("{} {id}", message.subject));
        }
    }
    if !forged.is_empty() {
        findings.add("I9", format!("messages that no service wrote: {}", some(&forged)));
    }
    Ok(())
}

/// Most lines a second of one replica, over any ten seconds.
const LINES_PER_SECOND_MAX: usize = 100;

fn logs(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
    let webhook = world.slack.webhook_url();
    let secrets = [
        world.databricks.token(),
        webhook.rsplit('/').next().unwrap_or_default().to_owned(),
    ];
    for replica in world.fleet.replicas() {
        let path = log_of(world.folder.path(), replica);
        let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        let name = format!("{} {}", replica.service, replica.number);
        for secret in &secrets {
            if text.contains(secret.as_str()) {
                findings.add("I11", format!("the log of {name} holds a secret"));
            }
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

async fn slots(pool: &PgPool, findings: &mut Findings) -> anyhow::Result<()> {
    let missing = texts(
        pool,
        "select job || ' ' || count(*) from (select job, slot, lag(slot) over (partition by job order by slot) before \
         from drift_monitor.slot) s where slot - before > interval '1 minute' group by job"
            .to_owned(),
    )
    .await?;
    if !missing.is_empty() {
        findings.add("I12", format!("slots were left out: {}", some(&missing)));
    }
    let twice = texts(
        pool,
        "select model || ' ' || (convert_from(data, 'UTF8')::jsonb ->> 'as_of') from drift_monitor.outbox \
         where subject = 'drift.checked' group by 1 having count(*) > 1"
            .to_owned(),
    )
    .await?;
    if !twice.is_empty() {
        findings.add(
            "I12",
            format!("checks of one slot were said more than once: {}", some(&twice)),
        );
    }
    Ok(())
}

async fn counts(pool: &PgPool, findings: &mut Findings) -> anyhow::Result<()> {
    let counts = &mut findings.counts;
    counts.decisions = scalar(
        pool,
        "select count(*) from retrain_decider.trigger where status <> 'declined'".to_owned(),
    )
    .await?;
    counts.ends = sqlx::query_as(
        "select status || coalesce(': ' || left(error_message, 100), ''), count(*) from retrain_decider.trigger \
         where status <> 'declined' group by 1 order by 2 desc limit 12",
    )
    .fetch_all(pool)
    .await?;
    counts.promotions = scalar(
        pool,
        "select count(*) from trainer_bridge.promotion where state = 'promoted'".to_owned(),
    )
    .await?;
    for service in SERVICES {
        let schema = schema_of(service);
        counts.duplicates += scalar(
            pool,
            format!("select coalesce(sum(deliveries - 1), 0)::bigint from {schema}.inbox"),
        )
        .await?;
        counts.dead_letters += scalar(pool, format!("select count(*) from {schema}.dead_letter")).await?;
        counts.offered_again += scalar(
            pool,
            format!("select coalesce(sum(offer), 0)::bigint from {schema}.outbox"),
        )
        .await?;
    }
    Ok(())
}
