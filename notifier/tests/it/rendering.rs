//! What people read, as goldens. After a wanted change: `INSTA_UPDATE=always cargo test -p notifier`, then review.

use lettre::Message;
use local_stack::hostile::NAMES;
use notifier::alert::Alert;
use notifier::decide::{Decision, decide};
use notifier::render::mail::{Envelope, MailError, mail};
use notifier::render::{html, slack, text};
use schemas::events::{
    DriftSeverity, FeatureDrift, Priority, PromotionKind, PromotionRefusal, ValidationVerdict, Verdict,
};
use schemas::{AlertId, Event, ModelName};
use uuid::Uuid;

use crate::decisions::told;
use crate::samples;

fn alert_id() -> AlertId {
    AlertId::from(Uuid::from_u128(0x5f1d_8d0c_7f0e_5c9b_8a52_1b6f_0c56_e01a))
}

fn envelope() -> Envelope {
    Envelope {
        alert_id: alert_id(),
        from: "Vigie <vigie@bank.example>".parse().unwrap(),
        to: "Fraud Desk <fraud-desk@bank.example>".parse().unwrap(),
        written_at: samples::at("2026-11-23T09:00:04Z"),
        thread: None,
    }
}

fn every_alert() -> Vec<(&'static str, Event)> {
    vec![
        (
            "drift_immediate",
            samples::drift_detected(DriftSeverity::Immediate).into(),
        ),
        (
            "drift_unknown",
            samples::drift_checked(Verdict::Unknown, Some(Verdict::Stable)).into(),
        ),
        (
            "retrain_requested",
            samples::retrain_requested(Priority::Immediate).into(),
        ),
        ("training_failed", samples::training_failed().into()),
        (
            "validation_failed",
            samples::model_validated(ValidationVerdict::Failed).into(),
        ),
        (
            "model_promoted",
            samples::model_promoted(PromotionKind::Promotion).into(),
        ),
        (
            "promotion_refused",
            samples::promotion_refused(PromotionRefusal::Artifact).into(),
        ),
    ]
}

fn written(alert: &Alert, envelope: &Envelope) -> Message {
    mail(alert, envelope).expect("a mail")
}

#[test]
fn texts_are_as_reviewed() {
    for (name, event) in every_alert() {
        insta::assert_snapshot!(format!("{name}.text"), text::text(&told(&event), alert_id()));
    }
}

#[test]
fn html_pages_are_as_reviewed() {
    for (name, event) in every_alert() {
        // One tag a line, so that a change can be read.
        let page = html::html(&told(&event), alert_id()).replace("><", ">\n<");
        insta::assert_snapshot!(format!("{name}.html"), page);
    }
}

#[test]
fn slack_messages_are_as_reviewed() {
    for (name, event) in every_alert() {
        insta::assert_json_snapshot!(format!("{name}.slack"), slack::message(&told(&event), alert_id()));
    }
}

#[test]
fn a_whole_mail_is_as_reviewed() {
    let alert = told(&samples::drift_detected(DriftSeverity::Immediate).into());
    let mail = written(
        &alert,
        &Envelope {
            thread: Some(AlertId::from(Uuid::from_u128(9))),
            ..envelope()
        },
    );
    let bytes = mail.formatted();
    assert_eq!(
        bytes,
        written(
            &alert,
            &Envelope {
                thread: Some(AlertId::from(Uuid::from_u128(9))),
                ..envelope()
            }
        )
        .formatted()
    );
    let source = String::from_utf8(bytes).unwrap();
    assert!(
        source
            .split("\r\n")
            .all(|line| line.len() <= 998 && !line.contains('\n')),
        "lines end in CRLF and are bounded"
    );
    let (head, _) = source.split_once("\r\n\r\n").unwrap();
    insta::assert_snapshot!("mail_head", head.replace("\r\n", "\n"));
}

#[test]
fn answers_point_at_the_first_mail_of_their_loop() {
    let alert = told(&samples::training_failed().into());
    let head = |thread| {
        let source =
            String::from_utf8(written(&alert, &Envelope { thread, ..envelope() }).formatted()).unwrap();
        source.split_once("\r\n\r\n").unwrap().0.to_owned()
    };
    let own = format!("Message-ID: <{}@bank.example>", alert_id());
    let first = AlertId::from(Uuid::from_u128(9));
    assert!(head(None).contains(&own));
    assert!(
        !head(None).contains("In-Reply-To"),
        "the first of a loop answers nothing"
    );
    assert!(
        !head(Some(alert_id())).contains("In-Reply-To"),
        "a mail does not answer itself"
    );
    let answer = head(Some(first));
    assert!(answer.contains(&format!("In-Reply-To: <{first}@bank.example>")));
    assert!(answer.contains(&format!("References: <{first}@bank.example>")));
}

/// Names that try to break out of a header, a page, a Slack message or a copied command.
const HOSTILE: [&str; 9] = [
    "<img src=x onerror=alert(1)>",
    "<!channel>",
    "<@U024BE7LH> <!subteam^S1|all>",
    "</td></tr></table><script>alert(1)</script>",
    "```\n<!here>",
    "*bold* _it_ ~no~ `code` :boom:",
    "a\r\nBcc: thief@evil.example",
    "x'; rm -rf / #",
    "safe\u{202e}gnp.exe",
];

fn hostile(name: &str) -> Alert {
    // What the types let through sits in the name; the rest arrives in free text.
    let model = name.replace(['\r', '\n'], " ");
    let model = if ModelName::new(&model).is_ok() {
        &model
    } else {
        "neutral"
    };
    let mut drift = samples::drift_detected(DriftSeverity::Immediate);
    name.clone_into(&mut drift.features[0].feature);
    name.clone_into(&mut drift.features[0].moved[0].level);
    let event: Event = drift.into();
    match decide(&event, &samples::attributes(&event, model)) {
        Decision::Tell(alert) => *alert,
        Decision::Silent(_) => panic!("nobody was told"),
    }
}

#[test]
fn hostile_names_stay_text_in_every_channel() {
    let neutral_tags = html::html(&hostile("neutral"), alert_id()).matches('<').count();
    let neutral_heads = header_names(&hostile("neutral"));
    for name in HOSTILE.iter().chain(NAMES) {
        let alert = hostile(name);
        let page = html::html(&alert, alert_id());
        assert_eq!(page.matches('<').count(), neutral_tags, "{name:?} adds a tag");
        assert_eq!(header_names(&alert), neutral_heads, "{name:?} adds a header");

        let message = slack::message(&alert, alert_id());
        let fallback = message["text"].as_str().unwrap();
        assert!(!fallback.contains(['<', '>']), "{name:?} in {fallback}");
        for text in texts_of(&message) {
            let (kind, text) = (text["type"].as_str().unwrap(), text["text"].as_str().unwrap());
            assert!(!text.contains(['<', '>']), "{name:?} opens markup in {text}");
            if kind == "mrkdwn" {
                assert_eq!(text.matches("```").count(), 2, "{name:?} leaves the code block");
                assert!(text.ends_with("```"));
            }
        }
        for text in [text::text(&alert, alert_id()), page] {
            assert!(!text.contains('\u{202e}'), "{name:?} turns the text round");
        }
    }
}

fn header_names(alert: &Alert) -> Vec<String> {
    let source = String::from_utf8(written(alert, &envelope()).formatted()).unwrap();
    let (head, _) = source.split_once("\r\n\r\n").unwrap();
    head.split("\r\n")
        .filter(|line| !line.starts_with([' ', '\t']))
        .map(|line| line.split(':').next().unwrap().to_owned())
        .collect()
}

fn texts_of(message: &serde_json::Value) -> Vec<&serde_json::Value> {
    let mut texts = Vec::new();
    for block in message["blocks"].as_array().unwrap() {
        texts.extend(block.get("text"));
        for list in ["fields", "elements"] {
            texts.extend(
                block
                    .get(list)
                    .and_then(|list| list.as_array())
                    .into_iter()
                    .flatten(),
            );
        }
    }
    texts
}

#[test]
fn a_copied_command_is_one_word_whatever_the_model_is_called() {
    let text = text::text(&hostile("x'; rm -rf / #"), alert_id());
    assert!(
        text.contains(r"vigie check 'x'\''; rm -rf / #' --as-of"),
        "{text}"
    );
}

#[test]
fn a_header_with_a_line_break_is_refused_not_written() {
    let mut alert = told(&samples::training_failed().into());
    alert.title = "x\r\nBcc: thief@evil.example".to_owned();
    assert!(matches!(
        mail(&alert, &envelope()),
        Err(MailError::UnsafeHeader {
            header: "Subject",
            ..
        })
    ));
}

#[test]
fn the_largest_alert_fits_into_slack() {
    let mut drift = samples::drift_detected(DriftSeverity::Immediate);
    drift.features = (0..300)
        .map(|n| FeatureDrift {
            moved: vec![samples::shift(&"&".repeat(60), 0.1, 0.9); 3],
            ..samples::feature(&format!("{n}{}", "&".repeat(500)), 9.0, 0.3, 0.01)
        })
        .collect();
    let event: Event = drift.into();
    let attributes = samples::attributes(&event, &"&".repeat(128));
    let Decision::Tell(mut alert) = decide(&event, &attributes) else {
        panic!("nobody was told")
    };
    for fact in &mut alert.facts {
        fact.value = "&".repeat(300);
    }
    let message = slack::message(&alert, alert_id());
    let blocks = message["blocks"].as_array().unwrap();
    assert!(blocks.len() <= 50);
    assert!(
        message.to_string().chars().count() < 13_000,
        "{}",
        message.to_string().chars().count()
    );
    for text in texts_of(&message) {
        assert!(text["text"].as_str().unwrap().chars().count() <= 3_000);
    }
    assert!(blocks[0]["text"]["text"].as_str().unwrap().chars().count() <= 150);
    for block in blocks {
        for field in block
            .get("fields")
            .and_then(|fields| fields.as_array())
            .into_iter()
            .flatten()
        {
            assert!(field["text"].as_str().unwrap().chars().count() <= 2_000);
        }
        assert!(
            block
                .get("fields")
                .and_then(|fields| fields.as_array())
                .is_none_or(|fields| fields.len() <= 10)
        );
    }
}
