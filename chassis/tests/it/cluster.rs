//! A cluster of brokers: replicas may be connected to different ones, and one may go.

use chassis::bus::Bus;
use local_stack::{Stack, StackOptions};

use crate::relay::{all_published, append};
use crate::support::{Bench, Running, count, eventually, handled, obliging};

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_any_server_is_the_broker_and_one_may_go() {
    chassis::install_crypto();
    let stack = Stack::start(StackOptions::for_tests()).await.unwrap();
    let servers = stack.start_nats_cluster("cluster", 3).await.unwrap();
    let database = stack.create_database("cluster").await.unwrap();
    let bench = Bench {
        replicas: 3,
        ..Bench::new().await
    };
    let settings = bench.nats_settings(&servers[0].url());
    eventually("the cluster has a leader", async || {
        let bus = Bus::connect(&settings, "toy").await.ok()?;
        chassis::provision::streams(&bus, &settings).await.ok()
    })
    .await;
    let first = bench.replica_of("toy", "toy", &servers[0].url(), &database).await;
    let second = bench.replica_of("toy", "toy", &servers[1].url(), &database).await;
    let ids = [&first, &second].map(|replica| replica.bus.client().server_info().server_id);
    assert_ne!(ids[0], ids[1]);

    let mut events = vec![append(&first, "before").await];
    let relay = Running::relay(&first);
    all_published(&first.pool, 1).await;
    relay.kill().await;
    for replica in [&first, &second, &first, &second] {
        let epoch = chassis::epoch::check(&replica.pool, &replica.bus, &replica.metrics);
        let epoch = epoch.await.unwrap();
        assert!(!epoch.changed && epoch.reoffered == 0, "{epoch:?}");
    }

    let running = [
        Running::relay(&second),
        Running::consumer(&first, obliging()),
        Running::consumer(&second, obliging()),
    ];
    handled(&first.pool, events[0]).await;
    // Under the first replica's connection, and maybe the leader of everything.
    tokio::task::block_in_place(|| servers[0].kill()).unwrap();
    for row in 0..10 {
        events.push(append(&second, &format!("without one, {row}")).await);
    }
    for event in &events {
        handled(&first.pool, *event).await;
    }
    tokio::task::block_in_place(|| servers[0].restart()).unwrap();
    events.push(append(&first, "with all again").await);
    handled(&first.pool, events[11]).await;
    assert_eq!(count(&first.pool, "select count(*) from effect").await, 12);
    let noticed = [&first, &second].map(|replica| replica.metrics.epoch_changes.get());
    assert_eq!(noticed, [0, 0], "nothing was lost, so nothing is offered again");
    for task in running {
        task.stop().await;
    }
    for replica in [first, second] {
        replica.pool.close().await;
    }
    drop(servers);
    stack.stop().await.unwrap();
}
