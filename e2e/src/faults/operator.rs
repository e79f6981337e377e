//! Does what a person would do after a trial.

use std::time::{Duration, Instant};

use anyhow::bail;
use chassis::redrive::{Because, Decision, Letter, Which, decide, letters};
use sqlx::{AssertSqlSafe, PgPool};

use super::nemesis::HOSTILE;
use super::world::schema_of;

/// The class of what was delivered as often as it may be, without success.
pub const EXHAUSTED: &str = "deliveries_exhausted";
/// How long what is redriven may take to be handled.
const HANDLED_WITHIN: Duration = Duration::from_mins(2);

/// Redrives what was parked because its reader died each time that it was given it, and waits until it is handled. Gives the number of
/// these messages.
///
/// # Errors
/// Database errors, and when one of them is not handled.
pub async fn redrive_exhausted(pool: &PgPool) -> anyhow::Result<usize> {
    let which = Which {
        class: Some(EXHAUSTED.to_owned()),
        ..Which::default()
    };
    let mut parked = letters(pool, &which, 1_000).await?;
    // What is no event stays parked.
    parked.retain(|letter| letter.headers.get(HOSTILE).is_none());
    let because = Because {
        by: "trial:operator",
        why: "its reader was killed each time that it was given it",
    };
    for letter in &parked {
        decide(pool, letter.dead_letter_id, Decision::Redrive, because).await?;
    }
    for letter in &parked {
        handled(pool, letter).await?;
    }
    Ok(parked.len())
}

async fn handled(pool: &PgPool, letter: &Letter) -> anyhow::Result<()> {
    let inbox = format!("{}.inbox", schema_of(&letter.consumer));
    let query = format!(
        "select exists (select from {inbox} where consumer = $1 and event_id = $2 and state = 'done')"
    );
    let begun = Instant::now();
    while begun.elapsed() < HANDLED_WITHIN {
        let (done,): (bool,) = sqlx::query_as(AssertSqlSafe(query.clone()))
            .bind(&letter.consumer)
            .bind(letter.event_id)
            .fetch_one(pool)
            .await?;
        if done {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    bail!(
        "{} was redriven and {} has not handled it within {HANDLED_WITHIN:?}",
        letter.event_id,
        letter.consumer
    )
}
