//! Periodic work without a leader: whoever inserts the slot's row does the work, in the same transaction.

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;

use crate::clock::Ticker;
use crate::db::Tx;
use crate::patience::{self, within};
use crate::service::Context;

/// When slots begin: a cron expression of five fields, UTC.
#[derive(Debug, Clone)]
pub struct Schedule(Cron);

impl Schedule {
    /// Every full hour, `0 * * * *`.
    pub fn hourly() -> Self {
        "0 * * * *"
            .parse()
            .unwrap_or_else(|_| unreachable!("a constant expression"))
    }

    /// The first slot after an instant; `None` when the expression names none within years.
    pub fn next_after(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.0.find_next_occurrence(&at, false).ok()
    }

    /// The last slot at or before an instant.
    pub fn last_until(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.0.find_previous_occurrence(&at, true).ok()
    }
}

impl std::str::FromStr for Schedule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parser = croner::parser::CronParser::builder()
            .seconds(croner::parser::Seconds::Disallowed)
            .year(croner::parser::Year::Disallowed)
            .build();
        let cron = parser.parse(text.trim()).map_err(|error| error.to_string())?;
        Ok(Self(cron))
    }
}

/// What to do about slots that passed while nobody was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// Skip them.
    None,
    /// Do the latest one.
    Latest,
    /// Do all of them, oldest first.
    All,
}

impl CatchUp {
    /// Choices for settings.
    pub const CHOICES: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("latest", Self::Latest), ("all", Self::All)];
}

/// Slots that are due.
///
/// `last_done` is the newest slot that anybody did; the first run ever does only the current slot, so that a
/// fresh installation does not work through history.
pub fn due(
    schedule: &Schedule,
    catch_up: CatchUp,
    last_done: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    limit: usize,
) -> Vec<DateTime<Utc>> {
    let Some(current) = schedule.last_until(now) else {
        return Vec::new();
    };
    let Some(last_done) = last_done else {
        return vec![current];
    };
    if last_done >= current {
        return Vec::new();
    }
    match catch_up {
        CatchUp::Latest => vec![current],
        // The slot of this very period is not a missed one.
        CatchUp::None => {
            let still_current = now - current < chrono::TimeDelta::minutes(5);
            if still_current { vec![current] } else { Vec::new() }
        }
        CatchUp::All => {
            let mut slots = Vec::new();
            let mut at = last_done;
            while let Some(next) = schedule.next_after(at).filter(|next| *next <= current) {
                slots.push(next);
                if slots.len() == limit {
                    break;
                }
                at = next;
            }
            slots
        }
    }
}

/// A periodic job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Name of the job, unique within the service, e.g. `drift-check/fraud-cards`.
    pub name: String,
    /// When its slots begin.
    pub schedule: Schedule,
    /// What to do about missed slots.
    pub catch_up: CatchUp,
    /// Longest single reading of a source by its work; nothing for most. It may take ten times as much more before it is
    /// broken off.
    pub reading_max: Duration,
}

/// Slots worked off before the clock is asked again.
const SLOTS_PER_ROUND: usize = 48;
/// Longest sleep between looks at the clock.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Pause between two looks whether the outbox has room.
const ROOM_AGAIN: Duration = Duration::from_secs(10);

/// Does the job's slots until told to stop.
///
/// `work` runs in the transaction that claims the slot: an error rolls both back, and the slot is tried again.
///
/// # Errors
/// Never for a database that is away: it waits and goes on.
pub async fn run<F, Fut>(context: Context, job: Job, work: F) -> anyhow::Result<()>
where
    F: Fn(Tx, DateTime<Utc>) -> Fut + Send + Sync,
    Fut: Future<Output = anyhow::Result<Tx>> + Send,
{
    let mut ticker = Ticker::new(context.clock, context.pool.clone());
    let mut resting = false;
    while !context.stop.is_cancelled() {
        context.metrics.beat("slots");
        let pause = match round(&context, &job, &work).await {
            Ok(Round::Nothing) => LOOK_AGAIN,
            Ok(Round::Worked) => {
                if std::mem::take(&mut resting) {
                    tracing::info!("job `{}` goes on", job.name);
                }
                continue;
            }
            Ok(Round::NoRoom) => {
                if !std::mem::replace(&mut resting, true) {
                    tracing::warn!(
                        "job `{}` rests: {} events wait for the broker, as many as `nats.outbox_rows_max` allows",
                        job.name,
                        context.nats.outbox_rows_max
                    );
                }
                ROOM_AGAIN
            }
            Err(error) => {
                tracing::warn!("slot of job `{}` is tried again: {error:#}", job.name);
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = ticker.wait(pause) => {}
            () = context.stop.cancelled() => {}
        }
    }
    Ok(())
}

/// What a look at the clock came to.
enum Round {
    /// No slot is due.
    Nothing,
    /// Slots were done, here or elsewhere.
    Worked,
    /// Slots are due, and what they would say could not be kept for a broker that takes nothing.
    NoRoom,
}

async fn round<F, Fut>(context: &Context, job: &Job, work: &F) -> anyhow::Result<Round>
where
    F: Fn(Tx, DateTime<Utc>) -> Fut + Send + Sync,
    Fut: Future<Output = anyhow::Result<Tx>> + Send,
{
    let answer_max = context.answer_timeout;
    let Some(now) = within(answer_max, context.clock.now(&context.pool)).await? else {
        return Ok(Round::Nothing);
    };
    let last = sqlx::query_as("select max(slot) from slot where job = $1").bind(&job.name);
    let (last_done,): (Option<DateTime<Utc>>,) = within(answer_max, last.fetch_one(&context.pool)).await?;
    let slots = due(&job.schedule, job.catch_up, last_done, now, SLOTS_PER_ROUND);
    if slots.is_empty() {
        return Ok(Round::Nothing);
    }
    if !within(answer_max, has_room(context)).await? {
        return Ok(Round::NoRoom);
    }
    for slot in &slots {
        if context.stop.is_cancelled() {
            break;
        }
        let _permit = context.slot_permits.acquire().await?;
        let longest = patience::longest(context.answer_timeout, job.reading_max);
        let done = within(longest, claim(context, job, work, *slot));
        context.metrics.beating("slots", done).await?;
    }
    Ok(Round::Worked)
}

/// Whether the outbox may grow. What the broker had once and is offered again does not count: there was room for it. The bound is a
/// soft one: it is looked at before each round of a job's slots, not before each event.
async fn has_room(context: &Context) -> sqlx::Result<bool> {
    let (waiting,): (i64,) = sqlx::query_as(
        "select count(*) from (select from outbox where published_at is null and failed_reason is null \
         and stored_at is null limit $1) waiting",
    )
    .bind(context.nats.outbox_rows_max)
    .fetch_one(&context.pool)
    .await?;
    Ok(waiting < context.nats.outbox_rows_max)
}

/// Does one slot, unless another replica has; waits for one that is at it.
async fn claim<F, Fut>(context: &Context, job: &Job, work: &F, slot: DateTime<Utc>) -> anyhow::Result<()>
where
    F: Fn(Tx, DateTime<Utc>) -> Fut + Send + Sync,
    Fut: Future<Output = anyhow::Result<Tx>> + Send,
{
    let mut tx = context.pool.begin().await?;
    let claimed = sqlx::query("insert into slot (job, slot) values ($1, $2) on conflict do nothing")
        .bind(&job.name)
        .bind(slot)
        .execute(&mut *tx)
        .await?;
    if claimed.rows_affected() == 1 {
        let tx = work(tx, slot).await?;
        crate::trial::boundary("slot.worked");
        within(context.answer_timeout, tx.commit()).await?;
        crate::trial::boundary("slot.done");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn missed_slots_are_caught_up_as_the_setting_says() {
        let hourly = Schedule::hourly();
        let last = Some(at("2026-01-01T02:00:00Z"));
        let now = at("2026-01-01T05:30:00Z");
        let cases = [
            (
                CatchUp::All,
                last,
                now,
                vec![
                    "2026-01-01T03:00:00Z",
                    "2026-01-01T04:00:00Z",
                    "2026-01-01T05:00:00Z",
                ],
            ),
            (CatchUp::Latest, last, now, vec!["2026-01-01T05:00:00Z"]),
            (CatchUp::None, last, now, vec![]),
            (
                CatchUp::None,
                last,
                at("2026-01-01T05:01:00Z"),
                vec!["2026-01-01T05:00:00Z"],
            ),
            // A fresh installation begins with the current slot.
            (CatchUp::All, None, now, vec!["2026-01-01T05:00:00Z"]),
            // Nothing is due twice, and a clock that went back does nothing.
            (CatchUp::All, last, at("2026-01-01T02:59:59Z"), vec![]),
            (CatchUp::All, last, at("2026-01-01T00:30:00Z"), vec![]),
        ];
        for (catch_up, last_done, now, expected) in cases {
            let expected: Vec<_> = expected.into_iter().map(at).collect();
            assert_eq!(
                due(&hourly, catch_up, last_done, now, 48),
                expected,
                "{catch_up:?} {last_done:?} {now}"
            );
        }
    }

    #[test]
    fn a_slot_begins_exactly_at_its_instant() {
        let daily: Schedule = "0 2 * * *".parse().unwrap();
        assert_eq!(
            daily.last_until(at("2026-01-02T02:00:00Z")),
            Some(at("2026-01-02T02:00:00Z"))
        );
        assert_eq!(
            daily.last_until(at("2026-01-02T01:59:59Z")),
            Some(at("2026-01-01T02:00:00Z"))
        );
        assert_eq!(
            daily.next_after(at("2026-01-02T02:00:00Z")),
            Some(at("2026-01-03T02:00:00Z"))
        );
    }

    #[test]
    fn expressions_with_seconds_or_nonsense_are_refused() {
        for bad in ["", "hourly", "0 0 2 * * *", "61 * * * *", "0 25 * * *"] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad}");
        }
    }
}
