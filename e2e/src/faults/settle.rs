//! Waits until nothing is under way any more.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use schemas::EventKind;
use sqlx::{AssertSqlSafe, PgPool};
use vigie::host::SERVICES;

use super::world::schema_of;

/// What is still under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnderWay(pub Vec<(String, i64)>);

impl UnderWay {
    /// Whether nothing is.
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

/// Counts what is under way at this moment.
///
/// # Errors
/// Database errors.
pub async fn under_way(pool: &PgPool) -> anyhow::Result<UnderWay> {
    let mut queries: Vec<(String, String)> = Vec::new();
    for service in SERVICES {
        let schema = schema_of(service);
        queries.push((
            format!("events of {service} that wait to be published"),
            format!(
                "select count(*) from {schema}.outbox where published_at is null and failed_reason is null"
            ),
        ));
        queries.push((
            format!("events of {service} without every receipt"),
            format!(
                "select count(*) from {schema}.outbox where published_at is not null and confirmed_at is null \
                 and failed_reason is null and subject not like 'dead.%' and redriven = 0"
            ),
        ));
    }
    for (what, query) in [
        (
            "training jobs",
            "select count(*) from trainer_bridge.training_job where state <> 'reported'",
        ),
        (
            "promotions",
            "select count(*) from trainer_bridge.promotion where state = 'intent'",
        ),
        (
            "triggers",
            "select count(*) from retrain_decider.trigger where status in ('pending', 'running')",
        ),
        (
            "alerts",
            "select count(*) from notifier.alert where state not in ('sent', 'failed')",
        ),
    ] {
        queries.push((what.to_owned(), query.to_owned()));
    }
    let mut left = Vec::new();
    for (what, query) in queries {
        let (count,): (i64,) = sqlx::query_as(AssertSqlSafe(query)).fetch_one(pool).await?;
        if count > 0 {
            left.push((what, count));
        }
    }
    Ok(UnderWay(left))
}

/// How waiting ended.
#[derive(Debug, Clone)]
pub struct Settled {
    /// How long that took; or what still was under way when the bound had passed.
    pub took: Result<Duration, UnderWay>,
    /// When it was seen. Periodic work goes on after it; what an auditor looks at is what was there before.
    pub at: DateTime<Utc>,
}

/// Waits until nothing is under way, at most `bound`. A database that is away for a moment is asked again.
pub async fn settle(pool: &PgPool, bound: Duration) -> Settled {
    let begun = Instant::now();
    let mut last = UnderWay::default();
    while begun.elapsed() < bound {
        // A database that has just come back may refuse the first question.
        let at = Utc::now();
        if let Ok(now) = under_way(pool).await {
            if now.is_nothing() {
                return Settled {
                    took: Ok(begun.elapsed()),
                    at,
                };
            }
            last = now;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    if last.is_nothing() {
        last.0.push(("answers of the database".to_owned(), 0));
    }
    Settled {
        took: Err(last),
        at: Utc::now(),
    }
}

/// Events that some service must read, by type.
pub fn types_with_readers() -> Vec<(&'static str, &'static [&'static str])> {
    EventKind::ALL
        .iter()
        .filter(|kind| !kind.readers().is_empty())
        .map(|kind| (kind.ce_type(), kind.readers()))
        .collect()
}
