//! A whole service: start, drain, kill, start again.

use chassis::launch;
use tokio_util::sync::CancellationToken;

use crate::child::{self, Toy, follow_ups, open_gate, send_waiting, sources, visited};
use crate::support::{Bench, PATIENCE, count, effects_of, eventually, handled, messages, send_sample};

fn start(bench: &Bench) -> (CancellationToken, tokio::task::JoinHandle<anyhow::Result<()>>) {
    let stop = CancellationToken::new();
    let sources = sources(&bench.env.nats_url, &bench.env.database_url);
    let token = stop.clone();
    (
        stop,
        tokio::spawn(async move { launch::<Toy>(&sources, token).await }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_finished_and_nothing_comes_back() {
    let bench = Bench::new().await;
    let witness = bench.replica().await;
    let (stop, service) = start(&bench);
    let event = send_waiting(&witness.bus, "slow").await;
    visited(&witness.pool, event, 1).await;
    stop.cancel();
    open_gate(&witness.pool, "slow").await;
    tokio::time::timeout(PATIENCE, service)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(effects_of(&witness.pool, event).await.len(), 1);
    // Started again, it has nothing to do twice.
    let (stop, service) = start(&bench);
    let next = send_sample(&witness.bus).await;
    handled(&witness.pool, next).await;
    stop.cancel();
    tokio::time::timeout(PATIENCE, service)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(count(&witness.pool, "select sum(deliveries) from inbox").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_finish_in_time_is_left_and_redone_later() {
    let bench = Bench::new().await;
    let witness = bench.replica().await;
    let mut sources = sources(&bench.env.nats_url, &bench.env.database_url);
    sources
        .environment
        .insert("VIGIE__SHUTDOWN__DRAIN_TIMEOUT".to_owned(), "1s".to_owned());
    let stop = CancellationToken::new();
    let token = stop.clone();
    let service = tokio::spawn(async move { launch::<Toy>(&sources, token).await });
    let event = send_waiting(&witness.bus, "never in time").await;
    visited(&witness.pool, event, 1).await;
    stop.cancel();
    let ended = tokio::time::timeout(PATIENCE, service)
        .await
        .expect("the drain is bounded")
        .unwrap();
    let told = ended.unwrap_err().to_string();
    assert!(told.contains("`shutdown.drain_timeout`"), "{told}");
    assert!(effects_of(&witness.pool, event).await.is_empty());
    open_gate(&witness.pool, "never in time").await;
    let (stop, service) = start(&bench);
    assert_eq!(handled(&witness.pool, event).await.len(), 1);
    stop.cancel();
    tokio::time::timeout(PATIENCE, service)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_while_it_handles_an_event_is_no_loss() {
    let bench = Bench::new().await;
    let witness = bench.replica().await;
    let mut doomed = child::spawn(&bench.env.nats_url, &bench.env.database_url);
    let event = send_waiting(&witness.bus, "after the kill").await;
    visited(&witness.pool, event, 1).await;
    doomed.kill().await.unwrap();
    open_gate(&witness.pool, "after the kill").await;
    let mut heir = child::spawn(&bench.env.nats_url, &bench.env.database_url);
    assert_eq!(handled(&witness.pool, event).await.len(), 1);
    eventually("what follows is published", async || {
        let stored = messages(&witness.bus, chassis::bus::STREAM).await;
        stored
            .iter()
            .any(|message| message.subject.as_str() == "retrain.asked")
            .then_some(())
    })
    .await;
    assert_eq!(follow_ups(&witness.pool, event).await, 1);
    heir.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_killed_again_and_again_do_each_event_once() {
    let bench = Bench::new().await;
    let witness = bench.replica().await;
    let mut events = Vec::new();
    for round in 0..4 {
        let mut doomed = child::spawn(&bench.env.nats_url, &bench.env.database_url);
        let first = events.len();
        for _ in 0..15 {
            events.push(send_sample(&witness.bus).await);
        }
        // Killed when the first of them is through: the others are anywhere.
        handled(&witness.pool, events[first + round]).await;
        doomed.kill().await.unwrap();
    }
    let mut last = child::spawn(&bench.env.nats_url, &bench.env.database_url);
    for event in &events {
        assert_eq!(handled(&witness.pool, *event).await.len(), 1);
    }
    eventually("every follow-up is published", async || {
        (count(
            &witness.pool,
            "select count(*) from outbox where published_at is not null",
        )
        .await
            == 60)
            .then_some(())
    })
    .await;
    assert_eq!(count(&witness.pool, "select count(*) from effect").await, 60);
    let stored = messages(&witness.bus, chassis::bus::STREAM).await;
    assert_eq!(
        stored
            .iter()
            .filter(|message| message.subject.as_str() == "retrain.asked")
            .count(),
        60
    );
    last.kill().await.unwrap();
}

/// SIGTERM; a process that has ended does not mind.
async fn terminate(process: &tokio::process::Child) {
    let Some(pid) = process.id() else { return };
    tokio::process::Command::new("kill")
        .args(["-TERM", &pid.to_string()])
        .status()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_a_process_at_once_and_its_work_is_redone() {
    let bench = Bench::new().await;
    let witness = bench.replica().await;
    let mut process = child::spawn(&bench.env.nats_url, &bench.env.database_url);
    let event = send_waiting(&witness.bus, "closed").await;
    visited(&witness.pool, event, 1).await;
    // Two that arrive together are one: it is told until it hears the second.
    let status = eventually("it ends", async || {
        terminate(&process).await;
        process.try_wait().unwrap()
    })
    .await;
    // Had it waited for its drain, the code would be another.
    assert_eq!(status.code(), Some(1));
    assert!(effects_of(&witness.pool, event).await.is_empty());
    open_gate(&witness.pool, "closed").await;
    let mut heir = child::spawn(&bench.env.nats_url, &bench.env.database_url);
    assert_eq!(handled(&witness.pool, event).await.len(), 1);
    heir.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_a_process_in_order() {
    let bench = Bench::new().await;
    let witness = bench.replica().await;
    let mut process = child::spawn(&bench.env.nats_url, &bench.env.database_url);
    let event = send_waiting(&witness.bus, "polite").await;
    visited(&witness.pool, event, 1).await;
    terminate(&process).await;
    open_gate(&witness.pool, "polite").await;
    let status = tokio::time::timeout(PATIENCE, process.wait())
        .await
        .expect("it ends")
        .unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(effects_of(&witness.pool, event).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_pool_that_the_settings_allow_is_enough() {
    let bench = Bench::new().await;
    let witness = bench.replica().await;
    let mut sources = sources(&bench.env.nats_url, &bench.env.database_url);
    sources
        .environment
        .insert("VIGIE__DATABASE__CONNECTIONS_MAX".to_owned(), "2".to_owned());
    let stop = CancellationToken::new();
    let token = stop.clone();
    let service = tokio::spawn(async move { launch::<Toy>(&sources, token).await });
    for _ in 0..10 {
        let event = send_sample(&witness.bus).await;
        handled(&witness.pool, event).await;
    }
    eventually("every follow-up is published", async || {
        (count(
            &witness.pool,
            "select count(*) from outbox where published_at is not null",
        )
        .await
            == 10)
            .then_some(())
    })
    .await;
    stop.cancel();
    tokio::time::timeout(PATIENCE, service)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_not_there_are_named_without_their_passwords() {
    let bench = Bench::new().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (nats, database, server) in [
        (
            format!("nats://u:hunter2@{nobody}"),
            bench.env.database_url.clone(),
            "NATS",
        ),
        (
            bench.env.nats_url.clone(),
            format!("postgres://u:hunter2@{nobody}/x"),
            "PostgreSQL",
        ),
    ] {
        let error = launch::<Toy>(&sources(&nats, &database), CancellationToken::new())
            .await
            .unwrap_err();
        let shown = format!("{error:#}");
        assert!(
            shown.contains(server) && shown.contains(&nobody.to_string()),
            "{shown}"
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
