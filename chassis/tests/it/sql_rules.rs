//! The conditions in the chassis' SQL mean what their mirror says; the simulated schedules stand on the mirror.

use std::collections::BTreeMap;

use chassis::Context;
use chassis::bus::STREAM;
use chassis::rules::{self, Position};
use chassis::sweep::{Patience, round};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use schemas::EventKind;
use uuid::Uuid;

use crate::mirror::{Gone, Row, claimed};
use crate::support::{Bench, KINDS, receipt};

const ROWS: i64 = 300;
/// Seconds before now; far from 300, which decides, so that a slow machine changes nothing.
const AGES: [i64; 6] = [-3_600, 20, 100, 1_000, 5_000, 80_000];
/// Milliseconds of the instant that the mirror calls now.
const NOW: i64 = 1_000_000_000;
/// Messages in the stream.
const LAST: u64 = 6;

fn generated(seed: u64) -> Vec<Row> {
    let mut rng = StdRng::seed_from_u64(seed);
    let row = |seq| Row {
        event: Uuid::from_u128(rng.random()),
        seq,
        kind: usize::from(rng.random_bool(0.2)),
        dead: rng.random_bool(0.1),
        next_at: NOW - [-3_600, 20, 1_000].choose(&mut rng).unwrap_or(&0) * 1_000,
        attempt: 0,
        offer: rng.random_range(0..12),
        published_at: rng
            .random_bool(0.7)
            .then(|| NOW - AGES.choose(&mut rng).unwrap_or(&0) * 1_000),
        stream_seq: rng.random_bool(0.7).then(|| rng.random_range(1..12)),
        stored_at: rng
            .random_bool(0.5)
            .then(|| NOW - AGES.choose(&mut rng).unwrap_or(&0) * 1_000),
        confirmed: rng.random_bool(0.2),
        failed: rng.random_bool(0.2),
    };
    (0..ROWS).map(row).collect()
}

fn kind_of(row: &Row) -> EventKind {
    // The reader of the other one is not installed.
    [EventKind::DriftCheckRequested, EventKind::RetrainAsked][row.kind]
}

async fn write(context: &Context, rows: &[Row]) {
    sqlx::query("truncate outbox")
        .execute(&context.pool)
        .await
        .unwrap();
    for row in rows {
        let seconds = |at: i64| (NOW - at) as f64 / 1_000.0;
        sqlx::query(
            "insert into outbox (event_id, subject, event_type, model, correlation_id, headers, data, next_at, offer, published_at, \
             stream_seq, confirmed_at, failed_reason, stored_at) values ($1, $2, $3, 'm', $1, '{}', '', \
             clock_timestamp() - make_interval(secs => $4), $5, clock_timestamp() - make_interval(secs => $6), $7, \
             case when $8 then clock_timestamp() end, case when $9 then 'no' end, \
             clock_timestamp() - make_interval(secs => $10))",
        )
        .bind(row.event)
        .bind(if row.dead { "dead.toy.undecodable" } else { kind_of(row).subject() })
        .bind(if row.dead { "vigie.dead" } else { kind_of(row).ce_type() })
        .bind(seconds(row.next_at))
        .bind(row.offer)
        .bind(row.published_at.map(seconds))
        .bind(row.stream_seq)
        .bind(row.confirmed)
        .bind(row.failed)
        .bind(row.stored_at.map(seconds))
        .execute(&context.pool)
        .await
        .unwrap();
    }
}

/// What the rules change: published, number, confirmed, failed, offers.
type Shape = (bool, Option<i64>, bool, bool, i32);

fn shape(row: &Row) -> Shape {
    (
        row.published_at.is_some(),
        row.stream_seq,
        row.confirmed,
        row.failed,
        row.offer,
    )
}

async fn shapes(context: &Context) -> BTreeMap<Uuid, Shape> {
    let rows: Vec<(Uuid, bool, Option<i64>, bool, bool, i32)> = sqlx::query_as(
        "select event_id, published_at is not null, stream_seq, confirmed_at is not null, failed_reason is not null, offer from outbox",
    )
    .fetch_all(&context.pool)
    .await
    .unwrap();
    rows.into_iter()
        .map(|(id, a, b, c, d, e)| (id, (a, b, c, d, e)))
        .collect()
}

fn compare(rows: &[Row], after: &[Row], found: &BTreeMap<Uuid, Shape>, seed: u64) {
    for (before, after) in rows.iter().zip(after) {
        assert_eq!(found[&after.event], shape(after), "seed {seed}: {before:?}");
    }
}

async fn fill(context: &Context, subject: &'static str) {
    for _ in 0..LAST {
        let stored = context
            .bus
            .jetstream()
            .publish(subject, "of another".into())
            .await;
        stored.unwrap().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_comparison_of_brokers_offers_what_its_mirror_offers() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    fill(&toy, EventKind::DriftChecked.subject()).await;
    chassis::epoch::check(&toy.pool, &toy.bus, &toy.metrics)
        .await
        .unwrap();
    for seed in 0..6 {
        let rows = generated(seed);
        write(&toy, &rows).await;
        let changed = seed % 2 == 0;
        // Last seen alive now, or so long ago that more of the past is at risk.
        let silent = [0, 800][usize::from(seed % 4 == 0)];
        let streams_too = seed % 3 == 0;
        if changed {
            sqlx::query("update broker_epoch set server_id = 'another' || case when $2 then '' else substr(server_id, strpos(server_id, '/')) end, \
                 compared_at = clock_timestamp() - make_interval(secs => $1)")
                .bind(f64::from(silent))
                .bind(streams_too)
                .execute(&toy.pool)
                .await
                .unwrap();
        }
        let epoch = chassis::epoch::check(&toy.pool, &toy.bus, &toy.metrics)
            .await
            .unwrap();
        assert_eq!(epoch.changed, changed);
        let after: Vec<Row> = rows
            .iter()
            // Nothing is in the stream of dead letters.
            .map(|row| {
                let gone = changed.then_some(Gone {
                    alive_at: NOW - i64::from(silent) * 1_000,
                    streams_too,
                });
                row.compared(gone, if row.dead { 0 } else { LAST }, NOW, NOW)
                    .unwrap_or_else(|| row.clone())
            })
            .collect();
        compare(&rows, &after, &shapes(&toy).await, seed);
        assert_ne!(rows, after);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_claims_what_its_mirror_claims() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    for seed in 10..13 {
        let mut rows = generated(seed);
        // Enough of them for more than one batch.
        for row in &mut rows[..150] {
            (row.published_at, row.failed) = (None, false);
        }
        write(&toy, &rows).await;
        let batch = chassis::relay::publish_batch(&toy.pool, &toy.bus, &toy.metrics)
            .await
            .unwrap();
        let claimed = claimed(&rows, NOW, 64);
        assert_eq!(batch.rows, claimed.len());
        let found = shapes(&toy).await;
        for row in &rows {
            let published = row.published_at.is_some() || claimed.contains(&row.event);
            assert_eq!(found[&row.event].0, published, "seed {seed}: {row:?}");
        }
    }
}

/// Number, and whether it counts as stored just now.
async fn acknowledged(context: &Context) -> BTreeMap<Uuid, (Option<i64>, bool)> {
    let rows: Vec<(Uuid, Option<i64>, bool)> = sqlx::query_as(
        "select event_id, stream_seq, stored_at > clock_timestamp() - interval '100 seconds' from outbox",
    )
    .fetch_all(&context.pool)
    .await
    .unwrap();
    rows.into_iter().map(|(id, seq, now)| (id, (seq, now))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_keeps_an_ack_as_its_mirror_does() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let mut rows: Vec<Row> = generated(20)
        .into_iter()
        .filter(|row| !row.dead)
        .take(40)
        .collect();
    for row in &mut rows {
        (row.published_at, row.failed, row.next_at) = (None, false, NOW - 20_000);
        row.stored_at = row.stored_at.map(|_| NOW - 5_000_000);
    }
    // First all are new to the broker, then it has them all under these numbers.
    for fresh in [true, false] {
        write(&toy, &rows).await;
        let publishing = chassis::relay::publish_batch(&toy.pool, &toy.bus, &toy.metrics);
        assert_eq!(publishing.await.unwrap().rows, rows.len());
        let found = acknowledged(&toy).await;
        for (number, row) in rows.iter_mut().enumerate() {
            let (seq, stored_now) = found[&row.event];
            let mut after = row.clone();
            after.acknowledged(seq.unwrap(), fresh, NOW);
            let expected = (after.stream_seq, after.stored_at == Some(NOW));
            assert_eq!((seq, stored_now), expected, "fresh {fresh}: {row:?}");
            // Every third was known under another number.
            row.stream_seq = seq.map(|seq| if number % 3 == 0 { seq + 100 } else { seq });
        }
    }
    let kept = acknowledged(&toy).await.values().filter(|(_, now)| !now).count();
    assert!((5..rows.len() - 5).contains(&kept), "{kept} of {}", rows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_confirms_and_offers_what_its_mirror_does() {
    let bench = Bench::new().await;
    let (nats, database) = (&bench.env.nats_url, &bench.env.database_url);
    let vigie = bench.replica_of("vigie", "vigie_operator", nats, database).await;
    let monitor = bench
        .replica_of("drift-monitor", "drift_monitor", nats, database)
        .await;
    fill(&vigie, EventKind::DriftCheckRequested.subject()).await;
    let consumer = chassis::provision::consumer(&monitor.bus, &monitor.nats, "drift-monitor", KINDS);
    consumer.await.unwrap();
    let state = vigie.bus.jetstream().get_stream(STREAM).await.unwrap();
    assert_eq!(state.cached_info().state.last_sequence, LAST);
    let position = Position {
        first: 1,
        last: LAST,
        acknowledged: 0,
        waiting: Some(LAST),
    };
    let patience = Patience::default();
    for seed in 20..24 {
        let rows = generated(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        let receipts: Vec<bool> = rows.iter().map(|_| rng.random_bool(0.5)).collect();
        write(&vigie, &rows).await;
        sqlx::query("truncate inbox")
            .execute(&monitor.pool)
            .await
            .unwrap();
        for (row, _) in rows.iter().zip(&receipts).filter(|(_, receipt)| **receipt) {
            let id = schemas::EventId::from(row.event);
            let mut tx = monitor.pool.begin().await.unwrap();
            receipt(&mut tx, "drift-monitor", id).await;
            tx.commit().await.unwrap();
        }
        round(&vigie, patience).await.unwrap();
        let after: Vec<Row> = rows
            .iter()
            .zip(&receipts)
            .map(|(row, receipt)| swept(row, *receipt, position, patience))
            .collect();
        compare(&rows, &after, &shapes(&vigie).await, seed);
    }
}

fn swept(row: &Row, receipt: bool, position: Position, patience: Patience) -> Row {
    let mut row = row.clone();
    if row.dead || row.kind == 1 {
        return row;
    }
    if row.is_confirmed_by(receipt) {
        row.confirmed = true;
    } else if row.is_overdue(receipt, patience.overdue, NOW) && !position.holds(row.stream_seq) {
        if rules::is_offered_again(row.offer) {
            row.offer_again(NOW);
        } else {
            row.failed = true;
        }
    }
    row
}
