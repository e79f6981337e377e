//! A broker that forgets what it acknowledged is told again.

use std::path::PathBuf;

use chassis::bus::STREAM;
use local_stack::{Stack, StackOptions};

use crate::relay::{all_published, append, stored};
use crate::support::{Bench, Running, count, eventually, handled, obliging};

/// A stack of its own, because its broker loses its disk.
async fn stack(database: &str) -> (Stack, String) {
    chassis::install_crypto();
    let stack = Stack::start(StackOptions::for_tests()).await.unwrap();
    let url = stack.create_database(database).await.unwrap();
    (stack, url)
}

/// A copy of what the broker has stored by now; it runs again afterwards.
fn kept_disk(stack: &Stack) -> PathBuf {
    tokio::task::block_in_place(|| {
        stack.nats().stop().unwrap();
        let copy = stack.nats().keep_disk().unwrap();
        stack.nats().restart().unwrap();
        copy
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_loss_of_power_took_from_the_broker_is_published_again_and_takes_effect_once() {
    let (stack, database) = stack("epoch_rollback").await;
    let bench = Bench::new().await;
    let toy = bench.replica_of("toy", "toy", &stack.nats_url(), &database).await;
    let relay = Running::relay(&toy);
    let consumer = Running::consumer(&toy, obliging());
    let mut events = vec![append(&toy, "before").await];
    all_published(&toy.pool, 1).await;
    handled(&toy.pool, events[0]).await;
    let copy = kept_disk(&stack);
    for row in 0..10 {
        events.push(append(&toy, &format!("lost {row}")).await);
    }
    all_published(&toy.pool, 11).await;
    tokio::task::block_in_place(|| {
        stack.nats().kill().unwrap();
        stack.nats().roll_back_disk(&copy).unwrap();
        stack.nats().restart().unwrap();
    });
    eventually("everything is in the stream again", async || {
        (stored(&toy).await.len() == 11).then_some(())
    })
    .await;
    for event in &events {
        assert_eq!(handled(&toy.pool, *event).await.len(), 1);
    }
    assert_eq!(count(&toy.pool, "select count(*) from effect").await, 11);
    consumer.stop().await;
    relay.stop().await;
    toy.pool.close().await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_again_and_again_is_not_offered_again_what_it_has_kept() {
    let (stack, database) = stack("epoch_again").await;
    let bench = Bench::new().await;
    let toy = bench.replica_of("toy", "toy", &stack.nats_url(), &database).await;
    for row in 0..3 {
        append(&toy, &format!("row {row}")).await;
    }
    chassis::epoch::check(&toy.pool, &toy.bus, &toy.metrics)
        .await
        .unwrap();
    let publish = async || {
        let batch = chassis::relay::publish_batch(&toy.pool, &toy.bus, &toy.metrics).await;
        batch.unwrap().rows
    };
    let restarted = async || {
        let before = *toy.bus.connects().borrow();
        tokio::task::block_in_place(|| {
            stack.nats().stop().unwrap();
            stack.nats().restart().unwrap();
        });
        eventually("connected again", async || {
            (*toy.bus.connects().borrow() > before && toy.bus.is_connected()).then_some(())
        })
        .await;
        eventually("the streams are there again", async || {
            let compared = chassis::epoch::check(&toy.pool, &toy.bus, &toy.metrics).await;
            compared.ok().filter(|epoch| epoch.changed)
        })
        .await
    };
    assert_eq!(publish().await, 3);
    // Two of them were stored long ago, and are acknowledged once more as what the broker has.
    sqlx::query("update outbox set stored_at = stored_at - interval '4 minutes' where seq < 3")
        .execute(&toy.pool)
        .await
        .unwrap();
    assert_eq!(restarted().await.reoffered, 3);
    assert_eq!(publish().await, 3);
    sqlx::query("update outbox set stored_at = stored_at - interval '4 minutes'")
        .execute(&toy.pool)
        .await
        .unwrap();
    assert_eq!(restarted().await.reoffered, 1, "only the youngest is at risk");
    assert_eq!(publish().await, 1);
    assert_eq!(stored(&toy).await.len(), 3);
    toy.pool.close().await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_its_disk_is_given_everything_that_is_not_confirmed() {
    let (stack, database) = stack("epoch_wipe").await;
    let bench = Bench::new().await;
    let toy = bench.replica_of("toy", "toy", &stack.nats_url(), &database).await;
    let relay = Running::relay(&toy);
    let consumer = Running::consumer(&toy, obliging());
    for row in 0..5 {
        append(&toy, &format!("row {row}")).await;
    }
    all_published(&toy.pool, 5).await;
    tokio::task::block_in_place(|| {
        stack.nats().kill().unwrap();
        stack.nats().lose_disk().unwrap();
        stack.nats().restart().unwrap();
    });
    eventually("everything is in the new stream", async || {
        let there = toy.bus.jetstream().get_stream(STREAM).await.is_ok();
        (there && stored(&toy).await.len() == 5).then_some(())
    })
    .await;
    append(&toy, "after").await;
    all_published(&toy.pool, 6).await;
    eventually("each has its effect", async || {
        (count(&toy.pool, "select count(*) from effect").await == 6).then_some(())
    })
    .await;
    consumer.stop().await;
    relay.stop().await;
    toy.pool.close().await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_lost_its_tail_and_kept_its_readers_skips_nothing() {
    let (stack, database) = stack("epoch_skew").await;
    let bench = Bench::new().await;
    let toy = bench.replica_of("toy", "toy", &stack.nats_url(), &database).await;
    let relay = Running::relay(&toy);
    let consumer = Running::consumer(&toy, obliging());
    append(&toy, "before").await;
    all_published(&toy.pool, 1).await;
    let copy = kept_disk(&stack);
    for row in 0..20 {
        append(&toy, &format!("lost {row}")).await;
    }
    eventually("the reader has had all of them", async || {
        (count(&toy.pool, "select count(*) from effect").await == 21).then_some(())
    })
    .await;
    tokio::task::block_in_place(|| {
        // In order, so that what the reader has had is on the disk.
        stack.nats().stop().unwrap();
        stack.nats().roll_back_messages(&copy).unwrap();
        stack.nats().restart().unwrap();
    });
    // New events get the numbers that the reader has had before.
    for row in 0..20 {
        append(&toy, &format!("new {row}")).await;
    }
    eventually("each of the new ones has its effect", async || {
        (count(&toy.pool, "select count(*) from effect").await == 41).then_some(())
    })
    .await;
    // And it says so.
    let lost = toy.metrics.lost.get();
    assert!(
        (1..=20).contains(&lost),
        "{lost} events were counted as lost by the broker"
    );
    consumer.stop().await;
    relay.stop().await;
    toy.pool.close().await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_begins_anew_under_a_living_connection_is_noticed() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let relay = Running::relay(&toy);
    for row in 0..5 {
        append(&toy, &format!("row {row}")).await;
    }
    all_published(&toy.pool, 5).await;
    toy.bus.jetstream().delete_stream(STREAM).await.unwrap();
    chassis::provision::streams(&toy.bus, &toy.nats).await.unwrap();
    append(&toy, "after").await;
    eventually("all are in the new stream", async || {
        (stored(&toy).await.len() == 6).then_some(())
    })
    .await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_made_again_is_noticed_though_others_have_filled_it() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let relay = Running::relay(&toy);
    for row in 0..3 {
        append(&toy, &format!("row {row}")).await;
    }
    all_published(&toy.pool, 3).await;
    relay.kill().await;
    toy.bus.jetstream().delete_stream(STREAM).await.unwrap();
    chassis::provision::streams(&toy.bus, &toy.nats).await.unwrap();
    let others = bench.replica_of("others", "others", &bench.env.nats_url, &bench.env.database_url);
    let others = others.await;
    let relay = Running::relay(&others);
    for row in 0..5 {
        append(&others, &format!("of another {row}")).await;
    }
    all_published(&others.pool, 5).await;
    relay.stop().await;
    // Its numbers are no longer behind the stream's end, and the server is the same.
    let found = chassis::epoch::check(&toy.pool, &toy.bus, &toy.metrics)
        .await
        .unwrap();
    assert_eq!((found.changed, found.reoffered), (true, 3));
    let relay = Running::relay(&bench.replica().await);
    eventually("all are in the new stream", async || {
        (stored(&toy).await.len() == 8).then_some(())
    })
    .await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_and_a_comparison_of_brokers_wait_for_each_other() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    append(&toy, "row").await;
    chassis::epoch::check(&toy.pool, &toy.bus, &toy.metrics)
        .await
        .unwrap();
    // A comparison that has not written yet.
    let mut comparison = toy.pool.begin().await.unwrap();
    sqlx::query("select from broker_epoch for update")
        .execute(&mut *comparison)
        .await
        .unwrap();
    let relay = toy.clone();
    let batch =
        tokio::spawn(
            async move { chassis::relay::publish_batch(&relay.pool, &relay.bus, &relay.metrics).await },
        );
    eventually("the batch waits", async || {
        (waiting(&toy).await == 1).then_some(())
    })
    .await;
    comparison.commit().await.unwrap();
    assert_eq!(batch.await.unwrap().unwrap().rows, 1);

    // A batch that was told by a broker that is no more, and has not written yet.
    let mut batch = toy.pool.begin().await.unwrap();
    sqlx::query("select from broker_epoch for share")
        .execute(&mut *batch)
        .await
        .unwrap();
    sqlx::query("update outbox set published_at = null, stream_seq = null")
        .execute(&toy.pool)
        .await
        .unwrap();
    sqlx::query("update broker_epoch set server_id = 'another'")
        .execute(&mut *batch)
        .await
        .unwrap();
    sqlx::query("update outbox set published_at = clock_timestamp(), stream_seq = 1")
        .execute(&mut *batch)
        .await
        .unwrap();
    let relay = toy.clone();
    let comparison =
        tokio::spawn(async move { chassis::epoch::check(&relay.pool, &relay.bus, &relay.metrics).await });
    eventually("the comparison waits", async || {
        (waiting(&toy).await == 1).then_some(())
    })
    .await;
    batch.commit().await.unwrap();
    let found = comparison.await.unwrap().unwrap();
    assert_eq!((found.changed, found.reoffered), (true, 1));
}

/// Sessions of this test's database that wait for a lock.
async fn waiting(toy: &chassis::Context) -> i64 {
    let query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    count(&toy.pool, query).await
}
