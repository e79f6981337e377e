//! Whatever is done to the record afterwards is found.

use chassis::Context;
use chassis::audit::{Anchor, Verdict, verify};

use crate::event_log::{intact, run, say, seal_all};
use crate::support::Bench;

/// A chain of six, with the means to change it and to put it back.
async fn six(toy: &Context) {
    for n in 0..6 {
        say(&toy.pool, &format!("event {n}")).await;
    }
    assert_eq!(seal_all(&toy.pool).await, 6);
    for sql in [
        "create table kept as select * from event_log",
        "create table kept_head as select * from event_log_head",
        "alter table event_log disable trigger user",
        "alter table event_log_head disable trigger user",
        "drop index event_log_link",
    ] {
        run(&toy.pool, sql).await;
    }
}

async fn put_back(toy: &Context) {
    for sql in [
        "delete from event_log",
        "insert into event_log overriding system value select * from kept",
        "delete from event_log_head",
        "insert into event_log_head select * from kept_head",
    ] {
        run(&toy.pool, sql).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_to_a_sealed_row_is_found_with_its_link() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    six(&toy).await;
    let changed = "says something else";
    let cases = [
        // what is done to the record; the link that is named; words about it
        (
            "update event_log set body = set_byte(body, 7, get_byte(body, 7) # 1) where link = 3",
            3,
            changed,
        ),
        (
            "update event_log set entry = replace(entry, 'drift', 'drivt') where link = 3",
            3,
            changed,
        ),
        (
            "update event_log set at = at + interval '1 microsecond' where link = 1",
            1,
            changed,
        ),
        (
            "update event_log set causation_id = event_id where link = 6",
            6,
            changed,
        ),
        (
            "update event_log set model = model || ' ' where link = 2",
            2,
            changed,
        ),
        ("update event_log set body = null where link = 2", 2, changed),
        (
            "update event_log set hash = sha256(hash) where link = 4",
            4,
            changed,
        ),
        (
            "delete from event_log where link = 3",
            3,
            "after link 2 comes link 4",
        ),
        ("delete from event_log where link = 1", 1, "is missing"),
        ("delete from event_log where link > 4", 5, "that there are 6"),
        ("delete from event_log", 1, "that there are 6"),
        (
            "update event_log set link = 7 - link where link in (3, 4)",
            3,
            "changed places",
        ),
        (
            "update event_log e set link = o.link, prev_hash = o.prev_hash, hash = o.hash from kept o \
             where e.link in (3, 4) and o.link = 7 - e.link",
            3,
            changed,
        ),
        (
            "update event_log set link = null, prev_hash = null, hash = null where link = 6",
            6,
            "is missing",
        ),
        (
            "update event_log set prev_hash = sha256(hash) where link = 5",
            5,
            "replaced",
        ),
        (
            "insert into event_log overriding system value select 99, at, what, event_id, event_type, model, correlation_id, \
             causation_id, entry, body, 4, prev_hash, hash from kept where link = 4",
            4,
            "more than once",
        ),
        (
            "insert into event_log overriding system value select 99, at, what, event_id, event_type, model, correlation_id, \
             causation_id, entry, body, 0, prev_hash, hash from kept where link = 1",
            0,
            "none of the chain",
        ),
        ("update event_log_head set link = 4", 5, "was not sealed by us"),
        ("update event_log_head set link = 9", 7, "that there are 9"),
        (
            "update event_log_head set hash = sha256(hash)",
            6,
            "the head says",
        ),
        ("delete from event_log_head", 7, "is gone"),
    ];
    for (tampering, named, words) in cases {
        run(&toy.pool, tampering).await;
        match verify(&toy.pool, toy.schema, &[]).await.unwrap() {
            Verdict::Broken { link, why, .. } => {
                assert_eq!(link, named, "{tampering}: {why}");
                assert!(why.contains(words), "{tampering}: {why}");
            }
            intact @ Verdict::Intact { .. } => panic!("{tampering}: {intact:?}"),
        }
        put_back(&toy).await;
        intact(&toy).await;
    }
    // The row that was changed is named with its event.
    run(&toy.pool, "update event_log set model = 'other' where link = 3").await;
    let third: uuid::Uuid = sqlx::query_scalar("select event_id from event_log where link = 3")
        .fetch_one(&toy.pool)
        .await
        .unwrap();
    let verdict = verify(&toy.pool, toy.schema, &[]).await.unwrap();
    assert!(
        matches!(verdict, Verdict::Broken { event_id: Some(event), .. } if event == third),
        "{verdict:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_noted_elsewhere_finds_what_rewrites_rows_and_head_together() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    six(&toy).await;
    let (_, head, _) = intact(&toy).await;
    let noted = [Anchor { link: 6, hash: head }];
    for sql in [
        "update event_log_head set link = 5, hash = (select hash from event_log where link = 5)",
        "delete from event_log where link = 6",
    ] {
        run(&toy.pool, sql).await;
    }
    assert_eq!(intact(&toy).await.0, 5, "by itself the shorter chain holds");
    let verdict = verify(&toy.pool, toy.schema, &noted).await.unwrap();
    assert!(matches!(verdict, Verdict::Broken { link: 6, .. }), "{verdict:?}");
    // The last event is forged and sealed anew, as our own sealer would.
    run(
        &toy.pool,
        "insert into event_log (what, event_id, event_type, model, correlation_id, entry) \
         values ('said', gen_random_uuid(), 't', 'm', gen_random_uuid(), '{}')",
    )
    .await;
    assert_eq!(seal_all(&toy.pool).await, 1);
    assert_eq!(intact(&toy).await.0, 6);
    match verify(&toy.pool, toy.schema, &noted).await.unwrap() {
        Verdict::Broken { link: 6, why, .. } => assert!(why.contains("written anew"), "{why}"),
        other => panic!("{other:?}"),
    }
    // Nor can the chain of one service stand in for another's.
    let other = bench
        .replica_of("other", "other", &bench.env.nats_url, &bench.env.database_url)
        .await;
    for sql in [
        "alter table event_log_head disable trigger user",
        "alter table event_log disable trigger user",
        "insert into event_log overriding system value select * from toy.event_log",
        "update event_log_head set link = t.link, hash = t.hash from toy.event_log_head t",
    ] {
        run(&other.pool, sql).await;
    }
    let verdict = verify(&other.pool, "other", &[]).await.unwrap();
    assert!(matches!(verdict, Verdict::Broken { link: 1, .. }), "{verdict:?}");
}
