//! The Slack stub answers as Slack does and remembers what people see.

use std::time::Duration;

use local_stack::peers::slack::{Answer, Slack};
use serde_json::{Value, json};

use crate::support::http_client;

async fn post(url: &str, message: &Value) -> (u16, String) {
    let response = http_client().post(url).json(message).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn good_messages_are_shown_and_bad_ones_refused_in_plain_text() {
    let slack = Slack::start().await.unwrap();
    let section = |characters: usize| json!({ "type": "section", "text": { "type": "mrkdwn", "text": "x".repeat(characters) } });
    let blocks = |blocks: Vec<Value>| json!({ "text": "drift", "blocks": blocks });
    let header = |kind: &str| json!({ "type": "header", "text": { "type": kind, "text": "Drift" } });
    let cases = [
        (json!({ "text": "drift" }), 200, "ok"),
        (blocks(vec![section(3_000)]), 200, "ok"), // the bound is inclusive
        (blocks(vec![section(3_001)]), 400, "invalid_blocks"),
        (blocks(vec![section(0)]), 400, "invalid_blocks"),
        (blocks(vec![section(1); 50]), 200, "ok"),
        (blocks(vec![section(1); 51]), 400, "invalid_blocks"),
        (blocks(vec![section(2_700); 5]), 400, "invalid_blocks"), // each fits, all together do not
        (
            blocks(vec![header("plain_text"), json!({ "type": "divider" })]),
            200,
            "ok",
        ),
        (blocks(vec![header("mrkdwn")]), 400, "invalid_blocks"),
        (blocks(vec![json!({ "type": "sektion" })]), 400, "invalid_blocks"),
        (json!({ "text": "" }), 400, "no_text"),
        (json!(["text"]), 400, "invalid_payload"),
    ];
    for (message, status, answer) in &cases {
        assert_eq!(
            post(&slack.webhook_url(), message).await,
            (*status, (*answer).to_owned()),
            "{message}"
        );
    }
    let shown: Vec<Value> = cases
        .iter()
        .filter(|case| case.1 == 200)
        .map(|case| case.0.clone())
        .collect();
    assert_eq!(slack.shown(), shown);
    assert_eq!(slack.posts().len(), cases.len());

    let not_json = http_client()
        .post(slack.webhook_url())
        .body("text=hello")
        .send()
        .await
        .unwrap();
    assert_eq!(not_json.text().await.unwrap(), "invalid_payload");
    let elsewhere = slack.webhook_url().replace("B00000000", "B00000001");
    assert_eq!(
        post(&elsewhere, &json!({ "text": "drift" })).await,
        (404, "no_service".to_owned())
    );
}

#[tokio::test]
async fn answers_follow_the_script() {
    let slack = Slack::start().await.unwrap();
    slack.script([
        Answer::TooManyRequests { retry_after: 7 },
        Answer::ServerError,
        Answer::NoService,
        Answer::InvalidPayload,
        Answer::AnswerLost,
        Answer::Slow(Duration::from_millis(1)),
    ]);
    let message = json!({ "text": "drift" });
    let throttled = http_client()
        .post(slack.webhook_url())
        .json(&message)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (
            throttled.status().as_u16(),
            throttled.headers()["retry-after"].to_str().unwrap()
        ),
        (429, "7")
    );
    assert_eq!(post(&slack.webhook_url(), &message).await.0, 500);
    assert_eq!(post(&slack.webhook_url(), &message).await.0, 404);
    assert_eq!(
        post(&slack.webhook_url(), &message).await,
        (400, "invalid_payload".to_owned())
    );
    assert_eq!(slack.shown(), Vec::<Value>::new());

    let lost = http_client()
        .post(slack.webhook_url())
        .json(&message)
        .send()
        .await;
    assert!(lost.is_err(), "no byte of an answer: {lost:?}");
    assert_eq!(
        slack.shown(),
        std::slice::from_ref(&message),
        "and yet people see it"
    );

    assert_eq!(post(&slack.webhook_url(), &message).await.0, 200);
    slack.otherwise(Answer::ServerError);
    assert_eq!(post(&slack.webhook_url(), &message).await.0, 500);
    let statuses: Vec<u16> = slack.posts().iter().map(|post| post.status).collect();
    assert_eq!(statuses, [429, 500, 404, 400, 200, 200, 500]);
}
