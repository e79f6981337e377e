//! What happened is on record once, sealed whoever commits when, and the record is only ever added to.

use chassis::audit::{self, Anchor, Verdict, verify};
use chassis::outbox::{self, Draft};
use chassis::redrive::{Because, Decision, Which, decide, letters};
use chassis::{Cause, Context, seal};
use schemas::events::DriftCheckRequested;
use schemas::flow::VIGIE;
use schemas::{EventId, Received};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use tokio_util::sync::CancellationToken;

use crate::child::{Toy, sources};
use crate::support::{
    Act, Bench, Running, Scripted, count, eventually, handled, headers_of, model, obliging, sample, send,
};

fn draft(key: &str) -> Draft {
    let body = DriftCheckRequested {
        as_of: "2026-01-01T00:00:00Z".parse().unwrap(),
        requested_by: "test".to_owned(),
        reason: key.to_owned(),
    };
    Draft::new(&model(), Cause::Key(key.to_owned()), body)
}

pub async fn say(pool: &PgPool, key: &str) -> EventId {
    let mut tx = pool.begin().await.unwrap();
    let said = outbox::append(&mut tx, VIGIE, draft(key)).await.unwrap();
    tx.commit().await.unwrap();
    said.id
}

pub async fn run(pool: &PgPool, sql: &str) {
    pool.execute(AssertSqlSafe(sql.to_owned()))
        .await
        .unwrap_or_else(|error| panic!("{error}\nin {sql}"));
}

pub async fn seal_all(pool: &PgPool) -> usize {
    let mut sealed = 0;
    loop {
        let round = seal::round(pool).await.unwrap();
        sealed += round;
        if round == 0 {
            return sealed;
        }
    }
}

/// Links, head, unsealed rows.
pub async fn intact(toy: &Context) -> (i64, String, i64) {
    match verify(&toy.pool, toy.schema, &[]).await.unwrap() {
        Verdict::Intact {
            links,
            head,
            unsealed,
        } => (links, head, unsealed),
        broken @ Verdict::Broken { .. } => panic!("{broken:?}"),
    }
}

/// What the log has about an event: what, entry, and how long the body is.
async fn record(pool: &PgPool, event: EventId) -> Vec<(String, Value, Option<usize>)> {
    let correlation = audit::loop_of(pool, event.uuid()).await.unwrap();
    let entries = match correlation {
        Some(correlation) => audit::of_loop(pool, correlation).await.unwrap(),
        None => Vec::new(),
    };
    let of_event = entries.into_iter().filter(|entry| entry.event_id == event.uuid());
    of_event
        .map(|entry| (entry.what, entry.entry, entry.body.map(|body| body.len())))
        .collect()
}

fn words(record: &[(String, Value, Option<usize>)]) -> Vec<&str> {
    record.iter().map(|(what, ..)| what.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_is_on_record_once_and_with_its_transaction() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let mut tx = toy.pool.begin().await.unwrap();
    let unsaid = outbox::append(&mut tx, VIGIE, draft("unsaid")).await.unwrap().id;
    tx.rollback().await.unwrap();
    assert!(record(&toy.pool, unsaid).await.is_empty());

    let said = say(&toy.pool, "said").await;
    assert_eq!(say(&toy.pool, "said").await, said);
    let on_record = record(&toy.pool, said).await;
    assert_eq!(words(&on_record), ["said"]);
    let (_, entry, body) = &on_record[0];
    assert_eq!(entry["headers"]["ce-id"], said.to_string());
    assert_eq!(entry["subject"], "drift.check.requested");
    let kept = count(&toy.pool, "select octet_length(data)::bigint from outbox").await;
    assert_eq!(body.map(|bytes| bytes as i64), Some(kept));
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_dead_letters_and_what_people_decide_are_on_record_with_who_and_why() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let (attributes, body) = sample();
    let event = attributes.id;
    let stubborn = Running::consumer(&toy, Scripted::new(|_: &Received, _| Act::Permanent));
    send(&toy.bus, headers_of(&attributes), body.clone()).await;
    let letter = eventually("the letter", async || {
        letters(&toy.pool, &Which::default(), 10).await.unwrap().pop()
    })
    .await;
    stubborn.stop().await;
    let parked = record(&toy.pool, event).await;
    assert_eq!(words(&parked), ["parked"], "and never received");
    assert_eq!(parked[0].1["class"], "handler_permanent");

    let because = Because {
        by: "cli:ana",
        why: "the mapping was mended",
    };
    decide(&toy.pool, letter.dead_letter_id, Decision::Redrive, because)
        .await
        .unwrap();
    let release = bench.replica().await;
    let (mended, relay) = (Running::consumer(&release, obliging()), Running::relay(&release));
    handled(&toy.pool, event).await;
    // A second delivery is no second receipt.
    send(&toy.bus, headers_of(&attributes), body).await;
    eventually("it came again", async || {
        (count(&toy.pool, "select sum(deliveries)::bigint from inbox").await >= 2).then_some(())
    })
    .await;
    // What cannot be read is about no loop, whatever it claims.
    let claimed = headers_of(&attributes);
    send(&toy.bus, claimed, b"{}".to_vec()).await;
    let hostile = eventually("the second letter", async || {
        letters(&toy.pool, &Which::default(), 10).await.unwrap().pop()
    })
    .await;
    decide(&toy.pool, hostile.dead_letter_id, Decision::Discard, because)
        .await
        .unwrap();
    mended.stop().await;
    relay.stop().await;
    let on_record = record(&toy.pool, event).await;
    assert_eq!(words(&on_record), ["parked", "redriven", "received"]);
    assert_eq!(
        (&on_record[1].1["by"], &on_record[1].1["why"]),
        (&because.by.into(), &because.why.into())
    );
    assert_eq!(on_record[2].1["consumer"], "toy");
    let digest = on_record[2].1["body_sha256"].as_str().unwrap();
    assert_eq!(
        Some(digest),
        on_record[0].1["body_sha256"].as_str(),
        "the same bytes"
    );
    let aside = record(&toy.pool, EventId::from(hostile.event_id)).await;
    assert_eq!(words(&aside), ["parked", "discarded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_sealed_in_batches_and_the_chain_holds() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let (links, beginning, _) = intact(&toy).await;
    assert_eq!(links, 0, "nothing yet, and that holds, too");
    run(
        &toy.pool,
        "insert into event_log (what, event_id, event_type, model, correlation_id, entry, body) \
         select 'said', gen_random_uuid(), 't', 'm', gen_random_uuid(), '{}', convert_to(n::text, 'UTF8') \
         from generate_series(1, 1600) n",
    )
    .await;
    assert_eq!(intact(&toy).await, (0, beginning, 1600));
    assert_eq!(seal_all(&toy.pool).await, 1600);
    let (links, head, unsealed) = intact(&toy).await;
    assert_eq!((links, unsealed), (1600, 0));
    let ours = audit::logs(&toy.pool).await.unwrap();
    assert_eq!(
        ours.iter().map(|log| log.service.as_str()).collect::<Vec<_>>(),
        ["toy"]
    );

    // A running service seals by itself.
    let stop = CancellationToken::new();
    let service = tokio::spawn({
        let sources = sources(&bench.env.nats_url, &bench.env.database_url);
        let stop = stop.clone();
        async move { chassis::launch::<Toy>(&sources, stop).await }
    });
    say(&toy.pool, "one more").await;
    eventually("it is sealed", async || {
        (intact(&toy).await.0 == 1601).then_some(())
    })
    .await;
    stop.cancel();
    service.await.unwrap().unwrap();
    let anchored = [Anchor {
        link: 1600,
        hash: head,
    }];
    assert!(matches!(
        verify(&toy.pool, toy.schema, &anchored).await.unwrap(),
        Verdict::Intact { links: 1601, .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn sealers_and_writers_at_once_make_one_chain_of_everything() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let mut at_work = tokio::task::JoinSet::new();
    for writer in 0..3 {
        let pool = toy.pool.clone();
        at_work.spawn(async move {
            for n in 0..40 {
                say(&pool, &format!("{writer}/{n}")).await;
            }
        });
    }
    for _ in 0..3 {
        let pool = toy.pool.clone();
        at_work.spawn(async move {
            while count(&pool, "select count(*) from event_log where link is not null").await < 120 {
                seal::round(&pool).await.unwrap();
            }
        });
    }
    while let Some(ended) = at_work.join_next().await {
        ended.unwrap();
    }
    let (links, _, unsealed) = intact(&toy).await;
    assert_eq!((links, unsealed), (120, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_commits_late_is_sealed_late_and_keeps_nobody_waiting() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let mut slow = toy.pool.begin().await.unwrap();
    outbox::append(&mut slow, VIGIE, draft("slow")).await.unwrap();
    say(&toy.pool, "quick").await;
    assert_eq!(seal_all(&toy.pool).await, 1, "the open one is not waited for");
    let (_, head, _) = intact(&toy).await;

    // Nor does it wait for a sealer that is in the middle of its work.
    let mut sealer = toy.pool.begin().await.unwrap();
    sqlx::query("select 1 from event_log_head for update")
        .execute(&mut *sealer)
        .await
        .unwrap();
    outbox::append(&mut slow, VIGIE, draft("slow, too"))
        .await
        .unwrap();
    slow.commit().await.unwrap();
    assert_eq!(
        seal::round(&toy.pool).await.unwrap(),
        0,
        "another sealer is at it, and is not waited for"
    );
    sealer.rollback().await.unwrap();
    assert_eq!(seal_all(&toy.pool).await, 2);
    let anchored = [Anchor { link: 1, hash: head }];
    let verdict = verify(&toy.pool, toy.schema, &anchored).await.unwrap();
    assert!(matches!(verdict, Verdict::Intact { links: 3, .. }), "{verdict:?}");
    let order: Vec<i64> = sqlx::query_scalar("select seq from event_log order by link")
        .fetch_all(&toy.pool)
        .await
        .unwrap();
    assert!(
        order[1] < order[0] && order[0] < order[2],
        "the first row was written first and sealed second: {order:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_refuses_to_forget() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    for n in 0..2 {
        say(&toy.pool, &format!("event {n}")).await;
    }
    seal_all(&toy.pool).await;
    say(&toy.pool, "not sealed").await;
    let before = intact(&toy).await;
    for attempt in [
        "update event_log set model = 'other'",
        "update event_log set entry = '{}' where link is null",
        "update event_log set body = null where link = 1",
        "update event_log set at = clock_timestamp()",
        "update event_log set link = 7, prev_hash = hash where link = 2",
        "update event_log set link = null, prev_hash = null, hash = null where link = 2",
        "update event_log set prev_hash = null where link is null",
        "delete from event_log",
        "delete from event_log where link is null",
        "truncate event_log",
        "insert into event_log (what, event_id, event_type, model, correlation_id, entry, link, prev_hash, hash) \
         select what, event_id, event_type, model, correlation_id, entry, 3, prev_hash, hash from event_log where link = 2",
        "update event_log_head set link = 1",
        "update event_log_head set hash = sha256(hash)",
        "delete from event_log_head",
        "truncate event_log_head",
    ] {
        let error = sqlx::query(attempt).execute(&toy.pool).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{attempt}: {error}");
    }
    assert_eq!(intact(&toy).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_the_documented_rights_appends_and_seals_and_nothing_more() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    // Roles belong to the whole server: this one is gone with its transaction.
    let mut tx = toy.pool.begin().await.unwrap();
    let role = format!("writer_{}", uuid::Uuid::new_v4().simple());
    for sql in [
        format!("create role {role}"),
        format!("grant usage on schema toy to {role}"),
        format!("grant select on event_log, event_log_head to {role}"),
        format!("grant insert on event_log to {role}"),
        format!("grant update (link, prev_hash, hash) on event_log to {role}"),
        format!("grant update (link, hash) on event_log_head to {role}"),
        format!("set local role {role}"),
        "insert into event_log (what, event_id, event_type, model, correlation_id, entry) \
         values ('said', gen_random_uuid(), 't', 'm', gen_random_uuid(), '{}')"
            .to_owned(),
        "select link from event_log_head where id = 1 for update skip locked".to_owned(),
        "update event_log set link = 1, prev_hash = '', hash = ''".to_owned(),
        "update event_log_head set link = 1, hash = '' where id = 1".to_owned(),
    ] {
        tx.execute(AssertSqlSafe(sql.clone()))
            .await
            .unwrap_or_else(|error| panic!("{error}\nin {sql}"));
    }
    for sql in [
        "update event_log set model = 'other'",
        "delete from event_log",
        "truncate event_log",
        "alter table event_log disable trigger user",
        "drop trigger event_log_rows_stay on event_log",
        "delete from event_log_head",
        "insert into event_log_head values (1, 0, '')",
    ] {
        run_in(&mut tx, "savepoint before").await;
        let error = tx.execute(sql).await.unwrap_err().to_string();
        assert!(
            error.contains("permission denied") || error.contains("must be owner"),
            "{sql}: {error}"
        );
        run_in(&mut tx, "rollback to savepoint before").await;
    }
    tx.rollback().await.unwrap();
}

async fn run_in(tx: &mut chassis::Tx, sql: &'static str) {
    tx.execute(sql).await.unwrap();
}
