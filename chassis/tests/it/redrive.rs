//! What a person does about dead letters has its effect once, and is on record.

use chassis::redrive::{Because, Decision, Letter, Which, decide, find, letters};
use schemas::Received;

use crate::support::{
    Act, Bench, Running, Scripted, count, effects_of, eventually, handled, headers_of, obliging, sample,
    send, send_sample,
};

const ANA: Because<'static> = Because {
    by: "cli:ana",
    why: "the mapping was mended",
};

async fn parked(bench: &chassis::Context, number: usize) -> Vec<Letter> {
    eventually("the letters are there", async || {
        let letters = letters(&bench.pool, &Which::default(), 100).await.unwrap();
        (letters.len() == number).then_some(letters)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redriven_event_takes_effect_once_and_a_discarded_one_never() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let stubborn = Running::consumer(&toy, Scripted::new(|_: &Received, _| Act::Permanent));
    let events = [send_sample(&toy.bus).await, send_sample(&toy.bus).await];
    parked(&toy, 2).await;
    stubborn.stop().await;

    let release = bench.replica().await;
    let mended = Running::consumer(&release, obliging());
    let relay = Running::relay(&release);
    let [again, aside] = [
        find(&toy.pool, events[0].uuid()).await.unwrap().remove(0),
        find(&toy.pool, events[1].uuid()).await.unwrap().remove(0),
    ];
    let redriven = decide(&toy.pool, again.dead_letter_id, Decision::Redrive, ANA)
        .await
        .unwrap();
    assert_eq!(
        (
            redriven.state.as_str(),
            redriven.decided_by.as_deref(),
            redriven.decision.as_deref()
        ),
        ("redriven", Some(ANA.by), Some(ANA.why))
    );
    decide(&toy.pool, aside.dead_letter_id, Decision::Discard, ANA)
        .await
        .unwrap();
    assert_eq!(handled(&toy.pool, events[0]).await.len(), 1);
    // Whoever comes late changes nothing.
    for decision in [Decision::Redrive, Decision::Discard] {
        for letter in [&again, &aside] {
            let error = decide(&toy.pool, letter.dead_letter_id, decision, ANA)
                .await
                .unwrap_err();
            assert!(error.to_string().contains("by cli:ana before"), "{error}");
        }
    }
    let which = async |which: Which| letters(&toy.pool, &which, 100).await.unwrap();
    assert!(which(Which::default()).await.is_empty());
    let all = || Which {
        all: true,
        ..Which::default()
    };
    assert_eq!(which(all()).await.len(), 2);
    for (which_ones, number) in [
        (("toy", "handler_permanent", "fraud-cards"), 2),
        (("other", "handler_permanent", "fraud-cards"), 0),
        (("toy", "too_large", "fraud-cards"), 0),
        (("toy", "handler_permanent", "loans"), 0),
    ] {
        let (consumer, class, model) = which_ones;
        let chosen = Which {
            consumer: Some(consumer.to_owned()),
            class: Some(class.to_owned()),
            model: Some(model.to_owned()),
            ..all()
        };
        assert_eq!(which(chosen).await.len(), number, "{which_ones:?}");
    }
    assert!(effects_of(&toy.pool, events[1]).await.is_empty());
    mended.stop().await;
    relay.stop().await;
    assert_eq!(count(&toy.pool, "select count(*) from effect").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_wrong_is_parked_again_under_the_same_letter() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let consumer = Running::consumer(&toy, obliging());
    let relay = Running::relay(&toy);
    let (attributes, _) = sample();
    send(&toy.bus, headers_of(&attributes), b"{}".to_vec()).await;
    let first = parked(&toy, 1).await.remove(0);
    assert_eq!(first.reason_class, "schema_invalid");
    for _ in 0..2 {
        // As if everybody had had it, before somebody gave up on it.
        sqlx::query("update outbox set confirmed_at = clock_timestamp(), offer = 10 where event_id = $1")
            .bind(first.event_id)
            .execute(&toy.pool)
            .await
            .unwrap();
        decide(&toy.pool, first.dead_letter_id, Decision::Redrive, ANA)
            .await
            .unwrap();
        let settled = "select count(*) from outbox where confirmed_at is not null or offer > 0";
        assert_eq!(
            count(&toy.pool, settled).await,
            0,
            "the sweep looks after it anew"
        );
        let again = parked(&toy, 1).await.remove(0);
        assert_eq!(again.dead_letter_id, first.dead_letter_id);
        // What was decided before is on record, and is no word on the letter as it is now.
        assert_eq!((again.decided_by, again.decision), (None, None));
    }
    consumer.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_whole_is_not_offered_again() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let consumer = Running::consumer(&toy, obliging());
    let (attributes, _) = sample();
    send(&toy.bus, headers_of(&attributes), vec![b' '; 300_000]).await;
    let letter = parked(&toy, 1).await.remove(0);
    let error = decide(&toy.pool, letter.dead_letter_id, Decision::Redrive, ANA)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not kept whole"), "{error}");
    assert_eq!(parked(&toy, 1).await[0].state, "parked");
    let unknown = decide(&toy.pool, uuid::Uuid::nil(), Decision::Discard, ANA)
        .await
        .unwrap_err();
    assert!(unknown.to_string().contains("vigie dlq list"), "{unknown}");
    consumer.stop().await;
}
