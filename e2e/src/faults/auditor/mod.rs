//! The invariants, read off the tables, the stream, the logs and the ledgers of everybody outside.
//!
//! | | |
//! | --- | --- |
//! | I1 | every acknowledged commit exists |
//! | I2 | every event has the receipt of each service that must read it, took effect once where nothing but its receipt keeps it single, and none of ours cannot be published or was parked (but after its last delivery to a reader that died each time, and then redriven and handled) |
//! | I3 | one decision per trigger, one request per decision, one external run per token and one token per attempt |
//! | I4 | one promotion per version, fences that rise; MLflow's alias pointed only at versions that were to be promoted, at the promoted ones in the order of their fences, and is where the last promotion put it |
//! | I5 | every alert reached everybody, no more often than it was attempted |
//! | I6 | everything ended, before its deadline, stayed as it ended, and failed only where the outside did |
//! | I7 | every chain of causes leads to an event without one, under one correlation |
//! | I8 | the record of events is unbroken |
//! | I9 | nothing is in the stream that no service wrote, and what is has the subject and bytes that were written |
//! | I10 | everything is published and confirmed in time after the last fault |
//! | I11 | no secret in any log, table, message, mail or post, no panic, and no more than 100 lines a second of a process |
//! | I12 | every slot was done once and none was left out |

mod effects;
mod outside;

use std::collections::HashMap;

use chassis::audit::Verdict;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;
use vigie::host::SERVICES;

use crate::faults::nemesis::{HOSTILE, messages};
use crate::faults::producer::Ledger;
use crate::faults::settle::{Settled, types_with_readers};
use crate::faults::world::{World, schema_of};

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
    /// Those of them that a person redrove.
    pub redriven: i64,
    /// Events that the sweep offered again.
    pub offered_again: i64,
    /// Events whose effects were counted by the witness.
    pub witnessed: i64,
    /// Pointings of MLflow's alias at a version that it had been pointed at before.
    pub pointed_again: usize,
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
    effects::once(world, &mut findings).await?;
    effects::handled(pool, &mut findings).await?;
    effects::needless_failures(world, &mut findings).await?;
    outside::decisions(world, &mut findings).await?;
    outside::promotions(world, &mut findings).await?;
    outside::pointings(world, &mut findings).await?;
    outside::alerts(world, ledger, settled, &mut findings).await?;
    ends(world, &mut findings).await?;
    causes(pool, &mut findings).await?;
    record(pool, &mut findings).await?;
    stream(world, &mut findings).await?;
    outside::logs(world, &mut findings)?;
    outside::posts(world, &mut findings)?;
    tables(world, &mut findings).await?;
    slots(pool, settled, &mut findings).await?;
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
    let late = scalar(
        pool,
        "select count(*) from trainer_bridge.promotion where ended_at > deadline + interval '60 seconds' \
         or (state = 'intent' and deadline < clock_timestamp())"
            .to_owned(),
    )
    .await?;
    if late > 0 {
        findings.add("I6", format!("{late} promotions ended after their deadline"));
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
                "select event_id, causation_id, correlation_id, subject from {}.outbox where subject not like 'dead.%'",
                schema_of(service)
            )
        })
        .collect();
    let all = all.join(" union all ");
    // From the roots down; what is not reached has a cause that does not exist, or goes round in a circle.
    let unrooted = texts(
        pool,
        format!(
            "with recursive said as materialized ({all}), rooted as (select event_id from said where causation_id is null \
             union select said.event_id from said join rooted on said.causation_id = rooted.event_id) \
             select event_id::text from said where event_id not in (select event_id from rooted)"
        ),
    )
    .await?;
    if !unrooted.is_empty() {
        findings.add(
            "I7",
            format!("events whose causes lead nowhere: {}", some(&unrooted)),
        );
    }
    // A drift that waited for the end of a training goes on with its own loop.
    let strangers = texts(
        pool,
        format!(
            "with said as materialized ({all}) select child.event_id::text from said child \
             join said parent on parent.event_id = child.causation_id where child.correlation_id <> parent.correlation_id \
             and not (child.subject like 'retrain.%' and child.correlation_id in (select event_id from said where causation_id is null))"
        ),
    )
    .await?;
    if !strangers.is_empty() {
        findings.add(
            "I7",
            format!(
                "events of another correlation than their cause: {}",
                some(&strangers)
            ),
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
    // Periodic work goes on. What is in the stream was written before, so the stream is read first.
    let published = messages(&world.stack.nats_url()).await?;
    let all: Vec<String> = SERVICES
        .iter()
        .map(|service| {
            format!(
                "select event_id::text, subject, encode(sha256(data), 'hex') from {}.outbox",
                schema_of(service)
            )
        })
        .collect();
    let written: Vec<(String, String, String)> = sqlx::query_as(AssertSqlSafe(all.join(" union all ")))
        .fetch_all(&world.pool)
        .await?;
    let written: HashMap<String, (String, String)> = written
        .into_iter()
        .map(|(id, subject, digest)| (id, (subject, digest)))
        .collect();
    let mut forged = Vec::new();
    let (canaries, mut telling) = (world.canaries(), 0);
    for message in published {
        let headers = message.headers.as_ref();
        let body = String::from_utf8_lossy(&message.payload);
        if canaries.are_in(&body) || canaries.are_in(&format!("{headers:?}")) {
            telling += 1;
        }
        let header = |name: &str| {
            headers
                .and_then(|headers| headers.get(name))
                .map(ToString::to_string)
        };
        if header(HOSTILE).is_some() {
            continue;
        }
        let id = header("ce-id").unwrap_or_default();
        let digest = scoring::digest_of(&message.payload);
        let known = written
            .get(&id)
            .is_some_and(|(subject, bytes)| *subject == message.subject.as_str() && bytes == digest.as_str());
        if !known {
            forged.push(format!("{} {id}", message.subject));
        }
    }
    if telling > 0 {
        findings.add("I11", format!("{telling} messages in the stream hold a secret"));
    }
    if !forged.is_empty() {
        findings.add("I9", format!("messages that no service wrote: {}", some(&forged)));
    }
    Ok(())
}

/// What the services keep, in whatever table.
async fn tables(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
    let patterns = world.canaries().patterns();
    for service in SERVICES {
        let schema = schema_of(service);
        let tables = texts(
            &world.pool,
            format!(
                "select table_name::text from information_schema.tables \
                 where table_schema = '{schema}' and table_type = 'BASE TABLE'"
            ),
        )
        .await?;
        anyhow::ensure!(!tables.is_empty(), "{service} has no tables");
        for table in tables {
            let query = format!("select count(*) from {schema}.{table} kept where kept::text like any($1)");
            let (telling,): (i64,) = sqlx::query_as(AssertSqlSafe(query))
                .bind(&patterns)
                .fetch_one(&world.pool)
                .await?;
            if telling > 0 {
                findings.add("I11", format!("{telling} rows of {schema}.{table} hold a secret"));
            }
        }
    }
    Ok(())
}

async fn slots(pool: &PgPool, settled: &Settled, findings: &mut Findings) -> anyhow::Result<()> {
    let silent: Vec<(String,)> = sqlx::query_as(
        "select job from drift_monitor.slot group by job having max(slot) < $1 - interval '3 minutes'",
    )
    .bind(settled.at)
    .fetch_all(pool)
    .await?;
    if !silent.is_empty() {
        findings.add("I12", format!("{} jobs have done no slot of late", silent.len()));
    }
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
        counts.redriven += scalar(
            pool,
            format!("select count(*) from {schema}.dead_letter where state = 'redriven'"),
        )
        .await?;
        counts.offered_again += scalar(
            pool,
            format!("select coalesce(sum(offer), 0)::bigint from {schema}.outbox"),
        )
        .await?;
    }
    Ok(())
}
