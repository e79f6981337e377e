//! Payments and a model to play with, for `vigie dev --sample`.

use std::path::Path;

use anyhow::Context as _;
use chassis::Sources;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use scoring::Model;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use super::settings::{self, merge};
use super::source::Days;
use super::{champion, report, table};
use crate::simulator::SimulateOptions;

/// Days of payments of a first start, which end today.
const DAYS: u32 = 28;
/// Days that pass before them: the stream is steady then, and nothing drifts that nobody planted.
const WARM_UP_DAYS: u32 = 60;
/// Payments that began longer ago are replaced by new ones rather than continued.
const DAYS_MAX: u32 = 366;

/// Loads simulated payments that end `now` and returns the settings of a model over them. Payments that are there are
/// continued, as if the bank had gone on, and scored by the champion in force if there is one.
///
/// # Errors
/// Database errors.
pub async fn load(database_url: &str, now: DateTime<Utc>) -> anyhow::Result<String> {
    let pool = PgPoolOptions::new()
        .max_connections(2)
        .connect(database_url)
        .await
        .context("connect to PostgreSQL")?;
    let kept = kept(&pool)
        .await?
        .filter(|(first, _)| days_until(*first, now) <= DAYS_MAX);
    let start = match kept {
        Some((first, _)) => first,
        None => (now - TimeDelta::days(i64::from(DAYS) - 1)).date_naive(),
    };
    // The same seed and first day give the same payments, so that more days continue those that are there.
    let mut days = Days::simulated(&SimulateOptions {
        days: days_until(start, now),
        start,
        warm_up_days: WARM_UP_DAYS,
        ..SimulateOptions::default()
    })?;
    let model = days.model().clone();
    let champion = match kept {
        Some(_) => {
            eprintln!(
                "adding the simulated payments since the last start to {} …",
                table::TABLE
            );
            champion_in_force(&pool).await?
        }
        None => {
            eprintln!(
                "loading {DAYS} days of simulated payments into {} …",
                table::TABLE
            );
            table::create(&pool, days.features()).await?;
            None
        }
    };
    while let Some(day) = days.next_day()? {
        let known = kept.map_or(0, |(_, last)| day.times.partition_point(|at| *at <= last));
        let until_now = day.times.partition_point(|at| *at <= now);
        table::append(&pool, &day, known..until_now.max(known), champion.as_ref()).await?;
    }
    pool.close().await;
    Ok(settings::render_model(&model))
}

/// Days from `first` up to and with today.
fn days_until(first: NaiveDate, now: DateTime<Utc>) -> u32 {
    u32::try_from((now.date_naive() - first).num_days() + 1).unwrap_or(1)
}

/// The first day and the last instant of the payments that are there.
async fn kept(pool: &PgPool) -> anyhow::Result<Option<(NaiveDate, DateTime<Utc>)>> {
    let (there,): (bool,) = sqlx::query_as("select to_regclass('bank.payment') is not null")
        .fetch_one(pool)
        .await?;
    if !there {
        return Ok(None);
    }
    let (first, last): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) =
        sqlx::query_as("select min(tx_time), max(tx_time) from bank.payment")
            .fetch_one(pool)
            .await?;
    Ok(first.zip(last).map(|(first, last)| (first.date_naive(), last)))
}

async fn champion_in_force(pool: &PgPool) -> anyhow::Result<Option<Model>> {
    let (there,): (bool,) = sqlx::query_as("select to_regclass('trainer_bridge.outbox') is not null")
        .fetch_one(pool)
        .await?;
    if !there {
        return Ok(None);
    }
    let promoted = report::latest_promotion(pool).await?;
    promoted.map(|promoted| champion(&promoted)).transpose()
}

/// Writes the settings in force as one file, so that other commands find the same servers.
///
/// # Errors
/// A folder that cannot be written.
pub fn write_settings(sources: &Sources, path: &Path) -> anyhow::Result<()> {
    let mut text = match sources.file_in_use() {
        Some(file) => std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?,
        None => String::new(),
    };
    for (_, over) in &sources.overrides {
        text = merge(&text, over)?;
    }
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use local_stack::TestEnv;

    use super::*;

    async fn rows(pool: &PgPool) -> (i64, DateTime<Utc>, String) {
        sqlx::query_as(
            "select count(*), max(tx_time), md5(string_agg(payment::text, '' order by tx_time, transaction_id)) \
             from (select * from bank.payment where tx_time < '2026-03-01T12:00:00Z') as payment",
        )
        .fetch_one(pool)
        .await
        .unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_later_start_continues_the_payments_up_to_its_own_instant() {
        let env = TestEnv::new().await;
        let pool = PgPool::connect(&env.database_url).await.unwrap();
        let noon: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().unwrap();
        load(&env.database_url, noon).await.unwrap();
        let before = rows(&pool).await;
        let later = noon + TimeDelta::days(3);
        load(&env.database_url, later).await.unwrap();
        assert_eq!(rows(&pool).await, before, "what was there stays as it was");
        let (last, twice): (DateTime<Utc>, i64) = sqlx::query_as(
            "select max(tx_time), count(*) - count(distinct (payment.*)::text) from bank.payment",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        assert!(last <= later && last > later - TimeDelta::hours(1), "{last}");
        assert_eq!(twice, 0);
        // Too long ago to be continued: everything is new, and ends at the instant again.
        let years = noon + TimeDelta::days(800);
        load(&env.database_url, years).await.unwrap();
        let (first, last) = kept(&pool).await.unwrap().unwrap();
        assert_eq!(days_until(first, years), DAYS);
        assert!(last > years - TimeDelta::hours(1), "{last}");
        pool.close().await;
    }

    #[test]
    fn nothing_drifts_in_the_sample_that_nobody_planted() {
        let options = SimulateOptions {
            days: DAYS,
            warm_up_days: WARM_UP_DAYS,
            ..SimulateOptions::default()
        };
        let days: Vec<_> = crate::simulator::Simulator::new(&options).unwrap().collect();
        let mean = |days: &[crate::simulator::DayBatch]| {
            let (mut sum, mut count) = (0.0, 0.0);
            for day in days {
                for value in day.numbers("customer_nb_tx_30d").unwrap() {
                    sum += value;
                    count += 1.0;
                }
            }
            sum / count
        };
        let (first, last) = (mean(&days[..7]), mean(&days[21..]));
        assert!((last / first - 1.0).abs() < 0.05, "{first} became {last}");
    }
}
