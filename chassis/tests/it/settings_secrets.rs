//! No secret is ever shown: not in what is in force, not in a mistake, not in a log line.

use chassis::db::shown_url;
use chassis::settings::render;
use chassis::{Reader, Secret, Settings, Sources};

const DEFAULTS: &str = r#"
[store]
url = ""
token = ""
api_token = ""
password = ""
client_secret = ""
webhook = ""
webhook_url = ""
recipients = []
"#;
/// Must never appear anywhere.
const CANARY: &str = "hunter2-canary";

fn settings(key: &str, value: &str) -> Settings {
    let mut sources = Sources::default();
    sources.environment.insert(
        format!("VIGIE__STORE__{}", key.to_ascii_uppercase()),
        value.to_owned(),
    );
    Settings::load(&[DEFAULTS], &[], &sources).unwrap()
}

#[test]
fn secrets_are_masked_in_what_is_shown_and_in_mistakes() {
    let cases = [
        ("token", CANARY.to_owned()),
        ("api_token", CANARY.to_owned()),
        ("password", CANARY.to_owned()),
        ("client_secret", CANARY.to_owned()),
        ("webhook", format!("https://hooks.example.org/services/{CANARY}")),
        (
            "webhook_url",
            format!("https://hooks.example.org/services/{CANARY}"),
        ),
        (
            "url",
            format!("postgres://vigie:{CANARY}@db.example.org:5432/fraud_db"),
        ),
        (
            "url",
            format!("postgres://db.example.org/fraud_db?user=vigie&password={CANARY}"),
        ),
        ("url", format!("nats://{CANARY}@broker.example.org:4222")),
        ("url", format!("smtp://mailer:{CANARY}@mail.example.org")),
        // Typing errors: no URL any more, and still a password in it.
        ("url", format!("postgres:/vigie:{CANARY}@db.example.org/fraud_db")),
        ("url", format!("vigie:{CANARY}@db.example.org/fraud_db")),
        (
            "url",
            format!("postgres://vigie:{CANARY}@db.example.org:port/fraud_db"),
        ),
        (
            "recipients",
            format!("postgres://vigie:{CANARY}@db.example.org/fraud_db"),
        ),
    ];
    for (key, value) in cases {
        let settings = settings(key, &value);
        let shown = render(&settings);
        assert!(!shown.contains(CANARY), "{key} = {value} is shown: {shown}");
        assert!(
            shown.contains("********"),
            "{key} = {value} looks as if it were not set: {shown}"
        );
        let reader = Reader::new(&settings);
        reader.section("store").problem(key, "something else");
        let problems = reader.finish().unwrap_err().to_string();
        assert!(!problems.contains(CANARY), "{key} = {value} is told: {problems}");
    }
}

#[test]
fn what_is_no_secret_stays_readable() {
    for (key, value) in [
        ("url", "postgres://vigie@127.0.0.1:5432/fraud_db"),
        ("url", "postgres://127.0.0.1/fraud_db?sslmode=verify-full"),
        ("url", "/var/lib/vigie/model.json"),
        ("recipients", "ops@example.org"),
    ] {
        let shown = render(&settings(key, value));
        assert!(shown.contains(value), "{key} = {value}: {shown}");
    }
    assert!(
        render(&settings("token", "")).contains("token = \"\""),
        "a secret that is not set shows that"
    );
}

#[test]
fn where_each_value_comes_from_is_shown() {
    let shown = render(&settings("url", "postgres://127.0.0.1/fraud_db"));
    assert!(
        shown.contains("# environment variable VIGIE__STORE__URL"),
        "{shown}"
    );
    assert!(
        shown.contains("webhook = \"\"  # the compiled-in defaults"),
        "{shown}"
    );
}

#[test]
fn a_secret_has_no_text_of_its_own() {
    let secret = Secret::new(CANARY);
    assert!(!format!("{secret:?}").contains(CANARY));
    assert_eq!(secret.expose(), CANARY);
}

#[test]
fn error_messages_name_the_server_without_the_password() {
    let shown = shown_url(&format!("postgres://vigie:{CANARY}@db.example.org/fraud_db"));
    assert!(
        !shown.contains(CANARY) && shown.contains("db.example.org"),
        "{shown}"
    );
}
