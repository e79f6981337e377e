//! Time as an input.
//!
//! Slots ask this clock which instant it is. In production that is the database's clock, so that hosts need
//! not agree; in a replay it is the instant that the replay has set. Technical timers (back-off, leases,
//! deadlines) are no business of this clock: they use `clock_timestamp()` in SQL.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgListener;
use sqlx::{PgExecutor, PgPool};

use crate::settings::Reader;

/// Channel that announces a new replay instant.
pub const REPLAY_CHANNEL: &str = "vigie_clock";

/// Where the instant of slots comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// `clock_timestamp()` of the database.
    Database,
    /// The row that a replay sets; there is no instant before the replay begins.
    Replay,
}

impl Clock {
    /// Reads `[clock]`.
    pub fn read(reader: &Reader<'_>) -> Self {
        reader.section("clock").choice(
            "source",
            &[("database", Self::Database), ("replay", Self::Replay)],
        )
    }

    /// The instant, `None` before a replay begins. Whoever holds a transaction asks on its connection: to wait for a second
    /// one while holding the first is how a pool starves.
    ///
    /// # Errors
    /// Database errors.
    pub async fn now<'c>(self, database: impl PgExecutor<'c>) -> sqlx::Result<Option<DateTime<Utc>>> {
        match self {
            Self::Database => {
                let (now,): (DateTime<Utc>,) = sqlx::query_as("select clock_timestamp()")
                    .fetch_one(database)
                    .await?;
                Ok(Some(now))
            }
            Self::Replay => {
                let row: Option<(DateTime<Utc>,)> = sqlx::query_as("select at from vigie.replay_clock")
                    .fetch_optional(database)
                    .await?;
                Ok(row.map(|(at,)| at))
            }
        }
    }
}

/// Creates the replay clock's table.
///
/// # Errors
/// Database errors.
pub async fn create_replay_clock(pool: &PgPool) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query("select pg_advisory_xact_lock(7373001)")
        .execute(&mut *tx)
        .await?;
    sqlx::query("create schema if not exists vigie")
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "create table if not exists vigie.replay_clock (\
         id int constraint replay_clock_key primary key constraint replay_clock_one_row check (id = 1), \
         at timestamptz not null)",
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// Sets the replay's instant; it never goes back.
///
/// # Errors
/// Database errors.
pub async fn set_replay_clock(pool: &PgPool, at: DateTime<Utc>) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query(
        "insert into vigie.replay_clock (id, at) values (1, $1) \
         on conflict (id) do update set at = greatest(vigie.replay_clock.at, excluded.at)",
    )
    .bind(at)
    .execute(&mut *tx)
    .await?;
    sqlx::query("select pg_notify('vigie_clock', '')")
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// Wakes when the clock may have moved on.
#[derive(Debug)]
pub struct Ticker {
    clock: Clock,
    pool: PgPool,
    listener: Option<PgListener>,
}

impl Ticker {
    /// A ticker for the clock.
    pub fn new(clock: Clock, pool: PgPool) -> Self {
        Self {
            clock,
            pool,
            listener: None,
        }
    }

    /// Waits up to `longest`, or until a replay sets a new instant.
    pub async fn wait(&mut self, longest: Duration) {
        if self.clock == Clock::Replay && self.listener.is_none() {
            match crate::db::listen(&self.pool, REPLAY_CHANNEL).await {
                Ok(listener) => self.listener = Some(listener),
                Err(error) => tracing::debug!("replay clock is polled: {error}"),
            }
        }
        match &mut self.listener {
            Some(listener) => {
                let lost = matches!(
                    tokio::time::timeout(longest.min(Duration::from_secs(1)), listener.recv()).await,
                    Ok(Err(_))
                );
                if lost {
                    self.listener = None;
                }
            }
            None => tokio::time::sleep(longest).await,
        }
    }
}
