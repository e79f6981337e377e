//! Settings that cannot work are refused, all at once and in words.

use std::collections::BTreeMap;

use chassis::{Problems, Sources, service};
use notifier::Notifier;

fn check(toml: &str, environment: &[(&str, &str)]) -> Result<(), Problems> {
    service::check::<Notifier>(&Sources {
        overrides: vec![("vigie.toml".to_owned(), toml.to_owned())],
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        dotenv: BTreeMap::new(),
        file: None,
    })
}

fn problems(toml: &str, environment: &[(&str, &str)]) -> String {
    check(toml, environment).expect_err("refused").to_string()
}

#[test]
fn the_documents_names_work_as_they_are() {
    check("", &[]).expect("the defaults are fine");
    check(
        "",
        &[
            (
                "ALERT_EMAIL_RECIPIENTS",
                "alice@bank.example, Bob <bob@bank.example>",
            ),
            ("ALERT_EMAIL_SMTP_HOST", "mail.bank.example"),
            ("ALERT_EMAIL_SMTP_PORT", "465"),
            ("VIGIE__NOTIFY__SMTP__ENCRYPTION", "tls"),
            ("ALERT_EMAIL_USERNAME", "vigie"),
            ("ALERT_EMAIL_PASSWORD", "hunter2"),
            ("ALERT_EMAIL_FROM", "vigie@bank.example"),
            ("ALERT_SLACK_WEBHOOK", "https://hooks.slack.com/services/T/B/x"),
        ],
    )
    .expect("a whole mail set-up from the environment");
}

#[test]
fn what_cannot_work_is_refused_with_the_key_and_the_reason() {
    let smtp = |rest: &str| {
        format!("[notify]\nrecipients = [\"a@b.example\"]\n[notify.smtp]\nhost = \"mail.example\"\n{rest}")
    };
    let cases = [
        (
            "[notify]\nrecipients = [\"not an address\"]\nmailbox = \"m\"".to_owned(),
            "notify.recipients",
        ),
        (
            "[notify]\nrecipients = [\"a@b.example\"]".to_owned(),
            "set `notify.smtp.host`",
        ),
        (
            "[notify.smtp]\nhost = \"mail.example\"".to_owned(),
            "at least one mail address",
        ),
        (
            smtp("encryption = \"none\""),
            "plain text is accepted only for a loopback address",
        ),
        (smtp("encryption = \"ssl\""), "one of `starttls`, `tls`, `none`"),
        (smtp("username = \"u\""), "notify.smtp.password"),
        (smtp("password = \"p\""), "notify.smtp.username"),
        (smtp("port = 70000"), "between 1 and 65535"),
        ("[notify]\ntimeout = \"1m\"".to_owned(), "notify.timeout"),
        (
            "[notify]\nslack_webhook = \"http://hooks.slack.com/x\"".to_owned(),
            "only to a loopback address",
        ),
        (
            "[notify]\nslack_webhook = \"hooks.slack.com\"".to_owned(),
            "notify.slack_webhook",
        ),
        ("[notify]\nfrom = \"nobody\"".to_owned(), "notify.from"),
        (
            "[notify]\nbackoff_first = \"1h\"\nbackoff_max = \"1m\"".to_owned(),
            "notify.backoff_max",
        ),
        ("[notify]\nattempts_max = 0".to_owned(), "between 1 and 50"),
        ("[notify]\nprobe_every = \"1h\"".to_owned(), "notify.probe_every"),
        (
            "[notify]\nrecipient = [\"a@b.example\"]".to_owned(),
            "`notify.recipients`",
        ),
    ];
    for (toml, expected) in cases {
        let said = problems(&toml, &[]);
        assert!(said.contains(expected), "{toml}\n{said}");
    }
}

#[test]
fn all_mistakes_come_at_once_and_secrets_stay_hidden() {
    let said = problems(
        "[notify]\nattempts_max = 0\nfrom = \"nobody\"\nslack_webhook = \"ftp://hooks.example/hushhush\"",
        &[
            ("ALERT_EMAIL_PASSWORD", "hunter2"),
            ("ALERT_EMAIL_SMTP_HOST", "mail.example"),
        ],
    );
    for key in [
        "notify.attempts_max",
        "notify.from",
        "notify.slack_webhook",
        "notify.smtp.username",
        "notify.recipients",
    ] {
        assert!(said.contains(key), "{key} is missing in {said}");
    }
    assert!(!said.contains("hunter2") && !said.contains("hushhush"), "{said}");
}
