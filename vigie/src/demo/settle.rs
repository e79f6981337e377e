//! When is everything that an instant set off done?
//!
//! Handlers commit a receipt and the events that follow in one transaction, so one consistent look at all
//! outboxes, receipts, running trainings and waiting alerts tells: nothing is under way when every event is published,
//! every reader that must see it has its receipt, and whoever is to be told was told.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use schemas::EventKind;
use sqlx::{AssertSqlSafe, PgPool};

/// Longest time one instant may take, trainings included.
const PATIENCE: Duration = Duration::from_secs(900);

/// No transaction that announces something takes longer. What is looked at again is in proportion to it: many hours are replayed in a
/// minute.
const TRANSACTION_MAX: chrono::TimeDelta = chrono::TimeDelta::seconds(10);

/// Who must have a receipt for which events.
fn required() -> Vec<(&'static str, &'static str, &'static [EventKind])> {
    vec![
        ("drift_monitor", "drift-monitor", drift_monitor::SUBSCRIPTION),
        (
            "retrain_decider",
            "retrain-decider",
            retrain_decider::SUBSCRIPTION,
        ),
        ("trainer_bridge", "trainer-bridge", trainer_bridge::SUBSCRIPTION),
        ("validator", "validator", validator::SUBSCRIPTION),
        ("notifier", "notifier", notifier::SUBSCRIPTION),
    ]
}

/// Waits until nothing is under way.
#[derive(Debug)]
pub struct Settle {
    pool: PgPool,
    query: String,
    since: DateTime<Utc>,
}

impl Settle {
    /// Prepares the one query that looks at everything.
    pub fn new(pool: PgPool) -> Self {
        let mut parts = Vec::new();
        for (schema, ..) in required() {
            parts.push(format!(
                "select '{schema}: event not published' as what, count(*) as n from {schema}.outbox \
                 where published_at is null and failed_reason is null"
            ));
            for (reader_schema, consumer, kinds) in required() {
                let types: Vec<String> = kinds.iter().map(|kind| format!("'{}'", kind.ce_type())).collect();
                parts.push(format!(
                    "select '{consumer}: event of {schema} not handled' as what, count(*) as n from {schema}.outbox o \
                     where o.created_at >= $3 and o.failed_reason is null and o.event_type in ({types}) and not exists \
                     (select 1 from {reader_schema}.inbox i where i.consumer = '{consumer}' and i.event_id = o.event_id)",
                    types = types.join(", ")
                ));
            }
        }
        parts.push("select 'a training runs' as what, count(*) as n from retrain_decider.model_state where training_decision is not null".to_owned());
        parts.push("select 'an alert is not told' as what, count(*) as n from notifier.alert where state in ('pending', 'sending')".to_owned());
        parts.push("select 'the drift check of the instant is not done' as what, case when exists (select 1 from drift_monitor.slot where slot >= $1) then 0 else 1 end as n".to_owned());
        parts.push("select 'the daily decision is not done' as what, case when $2::timestamptz is null or exists (select 1 from retrain_decider.slot where slot >= $2) then 0 else 1 end as n".to_owned());
        Self {
            pool,
            query: parts.join(" union all "),
            since: DateTime::UNIX_EPOCH,
        }
    }

    /// Waits until the check of `hour` and the daily decision of `daily`, if one is due, and everything that
    /// follows from them is done.
    ///
    /// # Errors
    /// When it takes longer than a quarter of an hour; names what is still under way.
    pub async fn wait(
        &mut self,
        hour: DateTime<Utc>,
        daily: Option<DateTime<Utc>>,
        mut alive: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let started = std::time::Instant::now();
        let (begun,): (DateTime<Utc>,) = sqlx::query_as("select clock_timestamp()")
            .fetch_one(&self.pool)
            .await
            .context("ask the database for the time")?;
        let mut pause = Duration::from_millis(2);
        loop {
            let rows: Vec<(String, i64)> = sqlx::query_as(AssertSqlSafe(self.query.clone()))
                .bind(hour)
                .bind(daily)
                .bind(self.since)
                .fetch_all(&self.pool)
                .await
                .context("look at what is under way")?;
            let under_way: Vec<&(String, i64)> = rows.iter().filter(|(_, count)| *count > 0).collect();
            if under_way.is_empty() {
                // Older rows had their receipts in this look, but for those whose transaction was still under way.
                self.since = begun - TRANSACTION_MAX;
                return Ok(());
            }
            alive()?;
            if started.elapsed() > PATIENCE {
                let mut text = String::new();
                for (what, count) in under_way {
                    let _ = write!(text, "{what} ({count}); ");
                }
                bail!("still under way after {} s: {text}", PATIENCE.as_secs());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}
