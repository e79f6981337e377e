//! Rows of the event log get their places in the chain.
//!
//! Writers append without a place and never wait. The sealer takes what is committed and has no place yet, whenever it
//! was begun, and links it to the end: the order of the chain is the order of sealing. Whoever holds the head's row seals;
//! the others have nothing to do. No lock that a writer needs is ever taken.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use sqlx::{AssertSqlSafe, PgPool};

use crate::event_log::{ROW, Row};
use crate::patience::within;
use crate::service::Context;
use crate::trial;

/// How long a row may wait for its place when nothing is wrong.
const EVERY: Duration = Duration::from_secs(1);
/// Most rows of a round: one transaction of a few milliseconds.
const BATCH: i64 = 256;

/// Seals until told to stop.
///
/// # Errors
/// Never for a database that is away: it waits and goes on.
pub async fn run(context: Context) -> anyhow::Result<()> {
    while !context.stop.is_cancelled() {
        context.metrics.beat("seal");
        match within(context.answer_timeout * 2, round(&context.pool)).await {
            Ok(sealed) if sealed == BATCH as usize => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!("the event log is not sealed: {error:#}"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = context.stop.cancelled() => {}
        }
    }
    Ok(())
}

/// Seals at most one batch of the schema that is first on the search path; returns how many rows that were. None when
/// another process is at it.
///
/// # Errors
/// Database errors; then nothing of the batch is sealed.
pub async fn round(pool: &PgPool) -> anyhow::Result<usize> {
    let mut tx = pool.begin().await?;
    let head: Option<(i64, Vec<u8>)> =
        sqlx::query_as("select link, hash from event_log_head where id = 1 for update skip locked")
            .fetch_optional(&mut *tx)
            .await
            .context("look at the head")?;
    let Some((mut link, mut hash)) = head else {
        return Ok(0);
    };
    let query = format!("select {ROW} from event_log where link is null order by seq limit $1");
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(query))
        .bind(BATCH)
        .fetch_all(&mut *tx)
        .await
        .context("look for rows without a place")?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut places = Places::default();
    for row in &rows {
        link += 1;
        let next = row.hash(link, &hash);
        places.seqs.push(row.seq);
        places.links.push(link);
        places.previous.push(std::mem::replace(&mut hash, next.clone()));
        places.hashes.push(next);
    }
    let placed = sqlx::query(
        "update event_log set link = place.link, prev_hash = place.prev_hash, hash = place.hash \
         from unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[]) as place (seq, link, prev_hash, hash) \
         where event_log.seq = place.seq",
    )
    .bind(&places.seqs)
    .bind(&places.links)
    .bind(&places.previous)
    .bind(&places.hashes)
    .execute(&mut *tx)
    .await
    .context("give rows their places")?;
    ensure!(
        placed.rows_affected() == rows.len() as u64,
        "rows of the event log disappeared while they were sealed"
    );
    sqlx::query("update event_log_head set link = $1, hash = $2 where id = 1")
        .bind(link)
        .bind(&hash)
        .execute(&mut *tx)
        .await
        .context("move the head")?;
    trial::boundary("seal.linked");
    tx.commit().await.context("seal")?;
    trial::boundary("seal.sealed");
    Ok(rows.len())
}

#[derive(Debug, Default)]
struct Places {
    seqs: Vec<i64>,
    links: Vec<i64>,
    previous: Vec<Vec<u8>>,
    hashes: Vec<Vec<u8>>,
}
