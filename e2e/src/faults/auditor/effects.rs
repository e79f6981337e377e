//! What took effect, and what ought to have: the witness's rows, parked events, and decisions that failed.

use std::collections::HashSet;

use sqlx::PgPool;
use vigie::host::SERVICES;

use super::outside::decision_of;
use super::{Findings, scalar, some, texts};
use crate::faults::operator::EXHAUSTED;
use crate::faults::witness::WITNESS;
use crate::faults::world::{World, schema_of};

/// How often each event took effect where nothing but its receipt keeps it single.
pub(super) async fn once(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
    if !world.witnessed {
        return Ok(());
    }
    let (twice, all): (i64, i64) = sqlx::query_as(
        "select count(*) filter (where times > 1), count(*) from \
         (select event_id, count(*) times from witness.effect group by event_id) e",
    )
    .fetch_one(&world.pool)
    .await?;
    findings.counts.witnessed = all;
    if twice > 0 {
        findings.add(
            "I2",
            format!("{twice} of {all} events took effect at {WITNESS} more than once"),
        );
    }
    Ok(())
}

/// What a service wrote can be published, and is handled rather than parked.
pub(super) async fn handled(pool: &PgPool, findings: &mut Findings) -> anyhow::Result<()> {
    let said: Vec<String> = SERVICES
        .iter()
        .map(|service| {
            format!(
                "select event_id from {}.outbox where subject not like 'dead.%'",
                schema_of(service)
            )
        })
        .collect();
    let said = said.join(" union all ");
    for service in SERVICES {
        let schema = schema_of(service);
        let parked = texts(
            pool,
            format!(
                "select consumer || ' ' || reason_class || ' ' || event_id from {schema}.dead_letter d \
                 where event_id in ({said}) and not (reason_class = '{EXHAUSTED}' and state = 'redriven' and exists \
                 (select from {schema}.inbox i where i.consumer = d.consumer and i.event_id = d.event_id and i.state = 'done'))"
            ),
        )
        .await?;
        if !parked.is_empty() {
            findings.add(
                "I2",
                format!("events of ours were parked in {schema}: {}", some(&parked)),
            );
        }
        let unpublishable = scalar(
            pool,
            format!("select count(*) from {schema}.outbox where failed_reason is not null"),
        )
        .await?;
        if unpublishable > 0 {
            findings.add(
                "I2",
                format!("{unpublishable} events of {service} cannot be published"),
            );
        }
    }
    Ok(())
}

/// A decision to retrain fails only where something outside did: its run, its version in the registry, or the history.
pub(super) async fn needless_failures(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
    let failed: Vec<(String, String)> = sqlx::query_as(
        "select decision_id::text, coalesce(error_message, '') from retrain_decider.trigger where status = 'failed'",
    )
    .fetch_all(&world.pool)
    .await?;
    let recorded = world.databricks.runs();
    let of_outside: HashSet<&str> = recorded
        .iter()
        .filter(|run| run.failed())
        .map(decision_of)
        .collect();
    let (mut without_history, mut others) = (0, Vec::new());
    for (decision, message) in &failed {
        if of_outside.contains(decision.as_str()) {
            continue;
        }
        if message.starts_with("the history begins") {
            without_history += 1;
        } else {
            others.push(format!("{decision}: {message}"));
        }
    }
    // The schedule's one slot of a trial lies before the payments.
    if without_history > world.models.len() {
        findings.add(
            "I6",
            format!("{without_history} decisions failed for want of history"),
        );
    }
    if others.len() > world.tracking.forgot() {
        findings.add(
            "I6",
            format!("decisions failed though nothing outside did: {}", some(&others)),
        );
    }
    Ok(())
}
