//! Answers that are lost while their connection stands: nobody waits for them for ever, and nothing is lost with them.

use std::time::Duration;

use chassis::db::while_reading;
use chassis::patience::{NoAnswer, within};
use chassis::{HandleError, Handler, Tx};
use local_stack::proxy::{Line, Proxy};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use schemas::Received;

use crate::relay::append;
use crate::support::{Bench, Running, count, effect, eventually};

/// Long enough for a loaded machine to answer, short enough to be waited for several times.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// A handler that may read for long, and therefore is not broken off soon.
struct Reads;

impl Handler for Reads {
    type Prepared = ();

    async fn handle(&self, tx: &mut Tx, received: &Received, (): &()) -> Result<(), HandleError> {
        Ok(effect(tx, received.attributes.id, "read").await?)
    }

    fn reading_max(&self) -> Duration {
        Duration::from_secs(1_000)
    }
}

async fn impatient() -> Bench {
    Bench {
        answer_timeout: ANSWER_TIMEOUT,
        ..Bench::new().await
    }
}

#[tokio::test]
async fn what_takes_too_long_is_dropped_and_named() {
    let forever = std::future::pending::<Result<(), anyhow::Error>>();
    let error = within(Duration::from_millis(5), forever).await.unwrap_err();
    assert!(error.is::<NoAnswer>(), "{error:#}");
    let quick = async { Err::<(), _>(std::io::Error::other("no")) };
    let error = within(Duration::from_secs(60), quick).await.unwrap_err();
    assert_eq!(error.to_string(), "no");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_loop_goes_on_after_answers_of_the_database_were_lost() {
    let bench = impatient().await;
    let proxy = Proxy::to_url(&bench.env.database_url).await.unwrap();
    let behind = proxy.instead_of(&bench.env.database_url).unwrap();
    let toy = bench.replica_of("toy", "toy", &bench.env.nats_url, &behind).await;
    let witness = bench.replica().await;
    let running = [
        Running::relay(&toy),
        Running::consumer(&toy, Reads),
        Running::spawn(&toy, chassis::seal::run(toy.clone())),
        Running::spawn(&toy, chassis::sweep::run(toy.clone())),
    ];
    // Which statement loses its answer is chance; the same for the same seed on a quiet machine.
    let mut chance = StdRng::seed_from_u64(20_261_128);
    let rounds = 12;
    for round in 0..rounds {
        for number in 0..4 {
            append(&witness, &format!("round {round}, {number}")).await;
        }
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..40))).await;
        proxy.set(Line::AnswersLost);
        tokio::time::sleep(Duration::from_millis(chance.random_range(20..300))).await;
        proxy.set(Line::Pass);
    }
    eventually("everything has its effect, its place and its ack", async || {
        let effects = count(&witness.pool, "select count(distinct event_id) from effect").await;
        let unsealed = count(&witness.pool, "select count(*) from event_log where link is null").await;
        let waiting = count(
            &witness.pool,
            "select count(*) from outbox where published_at is null",
        )
        .await;
        (effects == rounds * 4 && unsealed == 0 && waiting == 0).then_some(())
    })
    .await;
    assert_eq!(
        count(&witness.pool, "select count(*) from effect").await,
        rounds * 4,
        "each event took effect once"
    );
    for task in running {
        task.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_whose_answers_are_lost_are_replaced() {
    let bench = impatient().await;
    let proxy = Proxy::to_url(&bench.env.database_url).await.unwrap();
    let behind = proxy.instead_of(&bench.env.database_url).unwrap();
    let toy = bench.replica_of("toy", "toy", &bench.env.nats_url, &behind).await;
    let most = toy.pool.options().get_max_connections();
    let mut held = Vec::new();
    for _ in 0..most {
        held.push(toy.pool.begin().await.unwrap());
    }
    proxy.set(Line::AnswersLost);
    for tx in &mut held {
        let asked = sqlx::query("select 1").execute(&mut **tx);
        let answer = within(Duration::from_millis(50), asked).await;
        assert!(answer.unwrap_err().is::<NoAnswer>());
    }
    proxy.set(Line::Pass);
    // All of them come back in the middle of a statement.
    drop(held);
    for _ in 0..most {
        let answer = sqlx::query("select 1").execute(&toy.pool).await;
        assert!(answer.is_ok(), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_frozen_process_holds_is_free_again() {
    let bench = impatient().await;
    let (frozen, other) = (bench.replica().await, bench.replica().await);
    let mut held = frozen.pool.begin().await.unwrap();
    let lock = "select link from event_log_head for update";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    // It does nothing more. The other waits for the row, and gets it.
    let mut tx = other.pool.begin().await.unwrap();
    let locked = within(ANSWER_TIMEOUT * 20, sqlx::query(lock).execute(&mut *tx)).await;
    assert!(locked.is_ok(), "{locked:?}");
    let late = sqlx::query("select 1").execute(&mut *held).await;
    assert!(late.is_err(), "its transaction was ended");
}

#[tokio::test]
async fn a_transaction_may_stand_still_for_as_long_as_its_work_reads_and_no_longer() {
    let bench = impatient().await;
    let toy = bench.replica().await;
    let mut tx = toy.pool.begin().await.unwrap();
    let bound = async |tx: &mut Tx| -> String {
        let shown = sqlx::query_scalar("show idle_in_transaction_session_timeout");
        shown.fetch_one(&mut **tx).await.unwrap()
    };
    let before = bound(&mut tx).await;
    let reading = tokio::time::sleep(ANSWER_TIMEOUT + Duration::from_secs(1));
    while_reading(&mut tx, Duration::from_secs(60), reading)
        .await
        .unwrap();
    assert_eq!(bound(&mut tx).await, before);
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_begin_that_was_dropped_in_flight_leaves_no_transaction_open() {
    let bench = impatient().await;
    let proxy = Proxy::to_url(&bench.env.database_url).await.unwrap();
    let behind = proxy.instead_of(&bench.env.database_url).unwrap();
    let toy = bench.replica_of("toy", "toy", &bench.env.nats_url, &behind).await;
    let witness = bench.replica().await;
    sqlx::query("create table kept (round int)")
        .execute(&witness.pool)
        .await
        .unwrap();
    let rounds = 10;
    for round in 0..rounds {
        sqlx::query("select 1").execute(&toy.pool).await.unwrap();
        proxy.set(Line::Delay(Duration::from_millis(400)));
        let dropped = within(Duration::from_millis(100), toy.pool.begin()).await;
        proxy.set(Line::Pass);
        assert!(dropped.is_err());
        // Whoever has the connection next writes by itself, and that holds.
        for _ in 0..toy.pool.options().get_max_connections() {
            sqlx::query("insert into kept values ($1)")
                .bind(round)
                .execute(&toy.pool)
                .await
                .unwrap();
        }
    }
    toy.pool.close().await;
    let kept = count(&witness.pool, "select count(distinct round) from kept").await;
    assert_eq!(kept, i64::from(rounds));
    let open = count(
        &witness.pool,
        "select count(*) from pg_stat_activity where datname = current_database() and state = 'idle in transaction'",
    )
    .await;
    assert_eq!(open, 0);
}
