//! Each event and recipient once, whatever the broker, the outlets and the operating system do.

use std::time::Instant;

use chassis::Cause;
use local_stack::peers::slack::{Answer, Slack};
use schemas::events::{DriftSeverity, Priority, PromotionKind, ValidationVerdict, Verdict};
use service_bench::eventually;

use crate::running::{
    Scene, alerts, announced, let_time_pass, received, say, say_again, say_because, settled,
};
use crate::samples;
use crate::silent_webhook::SilentWebhook;

const TWO_READERS: &str =
    "mailbox = \"MAILBOX\"\nrecipients = [\"alice@bank.example\", \"Bob <bob@bank.example>\"]";

fn mails(scene: &Scene) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(&scene.mailbox) else {
        return Vec::new();
    };
    entries
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect()
}

fn slack_settings(url: &str) -> String {
    format!(
        "slack_webhook = {url:?}\nattempts_max = 3\nbackoff_first = \"100ms\"\nbackoff_max = \"1s\"\nprobe_every = \"1s\"\ntimeout = \"2s\""
    )
}

#[tokio::test]
async fn every_alerting_event_reaches_every_recipient_once_though_delivered_again() {
    let scene = Scene::new(TWO_READERS).await;
    let running = scene.start().await;
    let pool = &running.pool;
    let events = [
        say(
            pool,
            "fraud-cards",
            samples::drift_detected(DriftSeverity::Immediate),
        )
        .await,
        say(
            pool,
            "fraud-cards",
            samples::drift_checked(Verdict::Unknown, Some(Verdict::Stable)),
        )
        .await,
        say(
            pool,
            "fraud-cards",
            samples::retrain_requested(Priority::Immediate),
        )
        .await,
        say(pool, "fraud-cards", samples::training_failed()).await,
        say(
            pool,
            "fraud-cards",
            samples::model_validated(ValidationVerdict::Failed),
        )
        .await,
        say(
            pool,
            "fraud-cards",
            samples::model_promoted(PromotionKind::Promotion),
        )
        .await,
    ];
    let quiet = [
        say(pool, "fraud-cards", samples::drift_checked(Verdict::Stable, None)).await,
        say(
            pool,
            "fraud-cards",
            samples::model_validated(ValidationVerdict::Passed),
        )
        .await,
    ];
    for event in events.into_iter().chain(quiet) {
        received(pool, event, 1).await;
        say_again(pool, event).await;
        received(pool, event, 2).await;
    }
    let rows = settled(pool, 2 * events.len()).await;
    assert!(
        rows.iter().all(|row| row.state == "sent" && row.attempts == 1),
        "{rows:?}"
    );
    assert_eq!(mails(&scene).len(), 2 * events.len());
    for mail in mails(&scene) {
        assert!(mail.contains("Fraud Detection Alert:"), "{mail}");
        assert!(mail.contains("Auto-Submitted: auto-generated\r\n"));
    }
    let said = announced(pool).await;
    assert_eq!(said.len(), 2 * events.len());
    assert!(
        said.iter()
            .all(|(subject, body)| subject == "alert.sent" && body["attempts"] == 1)
    );
    let text = serde_json::to_string(&said.iter().map(|(_, body)| body).collect::<Vec<_>>()).unwrap();
    assert!(
        text.contains("a***@bank.example") && !text.contains("alice"),
        "events mask recipients"
    );
    running.stop().await;
}

#[tokio::test]
async fn an_episode_of_drift_is_told_once_per_severity() {
    let scene = Scene::new("mailbox = \"MAILBOX\"").await;
    let running = scene.start().await;
    let pool = &running.pool;
    // Hour after hour the same drift, then it becomes worse.
    for hour in 2..6 {
        let mut drift = samples::drift_detected(DriftSeverity::Medium);
        drift.as_of = samples::at(&format!("2018-07-20T0{hour}:00:00Z"));
        drift.consecutive = hour;
        let event = say(pool, "fraud-cards", drift).await;
        received(pool, event, 1).await;
    }
    let event = say(pool, "fraud-cards", samples::drift_detected(DriftSeverity::High)).await;
    received(pool, event, 1).await;
    let rows = settled(pool, 2).await;
    assert_eq!(
        rows[0].recipient, "operators@localhost",
        "a mailbox needs no named reader"
    );
    assert_eq!(mails(&scene).len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn alerts_of_one_loop_answer_its_first() {
    let scene = Scene::new("mailbox = \"MAILBOX\"").await;
    let running = scene.start().await;
    let pool = &running.pool;
    let drift = say(
        pool,
        "fraud-cards",
        samples::drift_detected(DriftSeverity::Immediate),
    )
    .await;
    received(pool, drift, 1).await;
    let cause = Cause::Event {
        id: drift,
        correlation_id: drift,
    };
    let request = say_because(
        pool,
        "fraud-cards",
        cause.clone(),
        samples::retrain_requested(Priority::Immediate),
    )
    .await;
    received(pool, request, 1).await;
    let promoted = say_because(
        pool,
        "fraud-cards",
        cause,
        samples::model_promoted(PromotionKind::Promotion),
    )
    .await;
    received(pool, promoted, 1).await;
    let elsewhere = say(pool, "fraud-cards", samples::training_failed()).await;
    received(pool, elsewhere, 1).await;
    let rows = settled(pool, 4).await;
    let first = rows[0].alert_id;
    assert_eq!(
        rows.iter().map(|row| row.thread_id).collect::<Vec<_>>(),
        [None, Some(first), Some(first), None]
    );
    let answers = mails(&scene)
        .iter()
        .filter(|mail| mail.contains(&format!("In-Reply-To: <{first}@localhost>")))
        .count();
    assert_eq!(answers, 2);
    running.stop().await;
}

#[tokio::test]
async fn a_webhook_that_stumbles_is_tried_again_and_then_told_once() {
    let slack = Slack::start().await.unwrap();
    slack.script([Answer::ServerError, Answer::TooManyRequests { retry_after: 1 }]);
    let scene = Scene::new(&slack_settings(&slack.webhook_url())).await;
    let running = scene.start().await;
    let pool = &running.pool;
    say(pool, "fraud-cards", samples::training_failed()).await;
    let rows = settled(pool, 1).await;
    assert_eq!(
        (rows[0].state.as_str(), rows[0].attempts),
        ("sent", 3),
        "{rows:?}"
    );
    let error = rows[0].last_error.as_deref().unwrap();
    assert!(
        error.contains("429") && error.contains("rate_limited"),
        "what went wrong is kept: {error}"
    );
    assert_eq!(slack.posts().len(), 3);
    assert_eq!(slack.shown().len(), 1);
    let said = announced(pool).await;
    assert_eq!(said.len(), 1);
    assert_eq!(
        (said[0].0.as_str(), &said[0].1["attempts"]),
        ("alert.sent", &3.into())
    );
    running.stop().await;
}

#[tokio::test]
async fn a_lost_answer_repeats_the_message_under_the_same_id() {
    let slack = Slack::start().await.unwrap();
    slack.script([Answer::AnswerLost]);
    let scene = Scene::new(&slack_settings(&slack.webhook_url())).await;
    let running = scene.start().await;
    say(&running.pool, "fraud-cards", samples::training_failed()).await;
    let rows = settled(&running.pool, 1).await;
    assert_eq!((rows[0].state.as_str(), rows[0].attempts), ("sent", 2));
    let shown = slack.shown();
    assert_eq!(shown.len(), 2, "nobody can know, so it is said again");
    assert_eq!(shown[0], shown[1]);
    assert!(
        shown[0].to_string().contains(&rows[0].alert_id.to_string()),
        "the id is visible"
    );
    running.stop().await;
}

#[tokio::test]
async fn failures_end_in_a_record_and_an_event_and_hold_no_secret() {
    // The first alert is refused, the second one that never recovers.
    let slack = Slack::start().await.unwrap();
    slack.script([Answer::InvalidPayload]);
    slack.otherwise(Answer::ServerError);
    let scene = Scene::new(&slack_settings(&slack.webhook_url())).await;
    let running = scene.start().await;
    let pool = &running.pool;
    say(pool, "fraud-cards", samples::training_failed()).await;
    settled(pool, 1).await;
    say(
        pool,
        "fraud-cards",
        samples::model_validated(ValidationVerdict::Failed),
    )
    .await;
    let rows = settled(pool, 2).await;
    let ends: Vec<_> = rows
        .iter()
        .map(|row| (row.state.as_str(), row.attempts))
        .collect();
    assert_eq!(ends, [("failed", 1), ("failed", 3)]);
    assert_eq!(
        slack.posts().len(),
        4,
        "a permanent refusal is not repeated, a transient one three times in all"
    );
    let said = announced(pool).await;
    assert_eq!(
        said.iter()
            .map(|(subject, _)| subject.as_str())
            .collect::<Vec<_>>(),
        ["alert.failed"; 2]
    );
    assert!(said[0].1["reason"].as_str().unwrap().contains("invalid_payload"));
    assert!(
        said[1].1["reason"]
            .as_str()
            .unwrap()
            .contains("gave up after 3 attempts")
    );
    let secret = url::Url::parse(&slack.webhook_url()).unwrap().path().to_owned();
    let everything = format!("{rows:?}{said:?}");
    assert!(!everything.contains(&secret), "{everything}");
    running.stop().await;
}

#[tokio::test]
async fn a_webhook_that_is_away_is_asked_now_and_then() {
    let slack = Slack::start().await.unwrap();
    slack.otherwise(Answer::ServerError);
    let scene =
        Scene::new(&slack_settings(&slack.webhook_url()).replace("attempts_max = 3", "attempts_max = 9"))
            .await;
    let running = scene.start().await;
    let pool = &running.pool;
    let begun = Instant::now();
    for _ in 0..20 {
        let mut failed = samples::training_failed();
        failed.job_id = schemas::JobId::fresh();
        say(pool, "fraud-cards", failed).await;
    }
    eventually("it is asked now and then", async || {
        (slack.posts().len() >= 9).then_some(())
    })
    .await;
    // Five find out that it is away, then there is one each second.
    let (posts, seconds) = (slack.posts().len() as u64, begun.elapsed().as_secs());
    assert!(posts <= 5 + seconds + 1, "{posts} posts in {seconds} s");
    slack.otherwise(Answer::Checked);
    let rows = settled(pool, 20).await;
    assert!(rows.iter().all(|row| row.state == "sent"), "{rows:?}");
    assert_eq!(slack.shown().len(), 20);
    running.stop().await;
}

#[tokio::test]
async fn an_episode_that_could_not_be_told_is_told_by_its_next_event() {
    let slack = Slack::start().await.unwrap();
    slack.script([Answer::InvalidPayload]);
    let scene = Scene::new(&slack_settings(&slack.webhook_url())).await;
    let running = scene.start().await;
    let pool = &running.pool;
    say(
        pool,
        "fraud-cards",
        samples::drift_detected(DriftSeverity::Immediate),
    )
    .await;
    assert_eq!(settled(pool, 1).await[0].state, "failed");
    // An hour later the same episode goes on.
    let again = say(
        pool,
        "fraud-cards",
        samples::drift_detected(DriftSeverity::Immediate),
    )
    .await;
    received(pool, again, 1).await;
    assert_eq!(settled(pool, 1).await[0].state, "sent");
    let quiet = say(
        pool,
        "fraud-cards",
        samples::drift_detected(DriftSeverity::Immediate),
    )
    .await;
    received(pool, quiet, 1).await;
    assert_eq!(slack.posts().len(), 2, "told once, after one failure");
    running.stop().await;
}

#[tokio::test]
async fn slack_shows_every_alert() {
    let slack = Slack::start().await.unwrap();
    let scene = Scene::new(&slack_settings(&slack.webhook_url())).await;
    let running = scene.start().await;
    let pool = &running.pool;
    let hostile = "&<!channel>`".repeat(10);
    let mut drift = samples::drift_detected(DriftSeverity::Immediate);
    drift.features = (0..50)
        .map(|n| samples::feature(&format!("{n}{hostile}"), 0.9, 0.3, 0.01))
        .collect();
    say(pool, &hostile, drift).await;
    say(pool, &hostile, samples::drift_checked(Verdict::Unknown, None)).await;
    say(pool, &hostile, samples::retrain_requested(Priority::Immediate)).await;
    say(pool, &hostile, samples::training_failed()).await;
    say(
        pool,
        &hostile,
        samples::model_validated(ValidationVerdict::Failed),
    )
    .await;
    say(pool, &hostile, samples::model_promoted(PromotionKind::Rollback)).await;
    let rows = settled(pool, 6).await;
    assert!(
        rows.iter().all(|row| row.state == "sent"),
        "{rows:?} {:?}",
        slack.posts()
    );
    assert_eq!(slack.shown().len(), 6);
    running.stop().await;
}

#[tokio::test]
async fn a_webhook_that_is_silent_does_not_delay_mails() {
    let stub = SilentWebhook::start(3).await;
    let scene = Scene::new(&format!(
        "mailbox = \"MAILBOX\"\n{}",
        slack_settings(&stub.url).replace("2s", "25s")
    ))
    .await;
    let running = scene.start().await;
    let pool = &running.pool;
    for _ in 0..5 {
        let mut failed = samples::training_failed();
        failed.job_id = schemas::JobId::fresh();
        say(pool, "fraud-cards", failed).await;
    }
    eventually("five mails beside a silent webhook", async || {
        (mails(&scene).len() == 5).then_some(())
    })
    .await;
    assert!(
        alerts(pool)
            .await
            .iter()
            .any(|row| row.recipient == "webhook" && row.state != "sent")
    );
    running.abandon().await;
}

#[tokio::test]
async fn killed_between_send_and_commit_repeats_at_most_once_under_the_same_id() {
    let stub = SilentWebhook::start(1).await;
    let scene = Scene::new(&slack_settings(&stub.url)).await;
    let mut process = scene.start_process();
    let pool = &scene.pool().await;
    say(pool, "fraud-cards", samples::training_failed()).await;
    // The webhook has the message, the notifier has no answer: nothing is committed yet.
    eventually("the first message", async || {
        (stub.received().len() == 1).then_some(())
    })
    .await;
    process.kill();
    let rows = alerts(pool).await;
    assert_eq!((rows[0].state.as_str(), rows[0].attempts), ("sending", 1));
    assert_eq!(announced(pool).await, []);

    let _restarted = scene.start_process();
    let_time_pass(pool).await;
    let rows = settled(pool, 1).await;
    assert_eq!((rows[0].state.as_str(), rows[0].attempts), ("sent", 2));
    let messages = stub.received();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0], messages[1]);
    assert!(
        messages[1].to_string().contains(&rows[0].alert_id.to_string()),
        "the id is visible"
    );
    assert_eq!(announced(pool).await.len(), 1);
}

#[tokio::test]
async fn a_lease_taken_over_by_another_announces_nothing_twice() {
    let stub = SilentWebhook::start(1).await;
    let scene = Scene::new(&slack_settings(&stub.url)).await;
    let slow = scene.start().await;
    say(&slow.pool, "fraud-cards", samples::training_failed()).await;
    eventually("the first message", async || {
        (stub.received().len() == 1).then_some(())
    })
    .await;
    // The first notifier is only slow; its lease ends and a second one sends.
    let_time_pass(&slow.pool).await;
    let quick = scene.start().await;
    let rows = settled(&quick.pool, 1).await;
    assert_eq!((rows[0].state.as_str(), rows[0].attempts), ("sent", 2));
    // Its own timeout wakes the first one, which finds the row gone.
    slow.stop().await;
    assert_eq!(alerts(&quick.pool).await[0].state, "sent");
    assert_eq!(announced(&quick.pool).await.len(), 1);
    quick.stop().await;
}

#[tokio::test]
async fn senders_that_die_again_and_again_come_to_an_end() {
    let stub = SilentWebhook::start(3).await;
    let scene = Scene::new(&slack_settings(&stub.url)).await;
    let mut process = scene.start_process();
    let pool = &scene.pool().await;
    say(pool, "fraud-cards", samples::training_failed()).await;
    for attempt in 1..=3 {
        eventually("the next message", async || {
            (stub.received().len() == attempt).then_some(())
        })
        .await;
        process.kill();
        process = scene.start_process();
        let_time_pass(pool).await;
    }
    let rows = settled(pool, 1).await;
    assert_eq!(rows[0].state, "failed");
    assert_eq!(stub.received().len(), 3, "attempts_max holds across restarts");
    assert_eq!(announced(pool).await.len(), 1);
}

#[tokio::test]
async fn nonsense_is_parked_and_the_flow_goes_on() {
    let scene = Scene::new("mailbox = \"MAILBOX\"").await;
    let running = scene.start().await;
    let pool = &running.pool;
    // Until the first receipt there may be no stream that could keep the nonsense.
    let first = say(
        pool,
        "fraud-cards",
        samples::model_promoted(PromotionKind::Promotion),
    )
    .await;
    received(pool, first, 1).await;
    let bus = scene.bus().await;
    bus.client()
        .publish("drift.detected", "not an event".into())
        .await
        .unwrap();
    bus.client()
        .publish("model.promoted", vec![b'x'; 300_000].into())
        .await
        .unwrap();
    bus.client().flush().await.unwrap();
    let event = say(pool, "fraud-cards", samples::training_failed()).await;
    received(pool, event, 1).await;
    settled(pool, 2).await;
    let classes = eventually("two parked messages", async || {
        let classes: Vec<String> =
            sqlx::query_scalar("select reason_class from dead_letter order by reason_class")
                .fetch_all(pool)
                .await
                .unwrap();
        (classes.len() == 2).then_some(classes)
    })
    .await;
    assert_eq!(classes, ["too_large", "undecodable"]);
    running.stop().await;
}

#[tokio::test]
async fn without_any_way_out_alerts_are_decided_and_nobody_is_told() {
    let scene = Scene::new("").await;
    let running = scene.start().await;
    let event = say(&running.pool, "fraud-cards", samples::training_failed()).await;
    received(&running.pool, event, 1).await;
    assert!(alerts(&running.pool).await.is_empty());
    running.stop().await;
}
