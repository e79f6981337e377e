//! No secret is ever shown: not in what is in force, not in a mistake, not in a log line.

use chassis::db::shown_url;
use chassis::settings::{render, render_json};
use chassis::{Reader, Secret, Settings, Sources};

const DEFAULTS: &str = r#"
[store]
url = ""
token = ""
api_token = ""
password = ""
client_secret = ""
nkey = ""
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
        ("nkey", CANARY.to_owned()),
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
fn a_line_that_cannot_be_read_is_told_by_its_place_and_never_shown() {
    let lines = [
        (format!("# a comment\nDATABRICKS_TOKEN={CANARY} second\n"), 2, 33),
        (format!("A=1\nB=\"two\nlines\"\n\n{CANARY}\n"), 5, 8),
        (format!("A=1\nTOKEN=\"{CANARY}\nB=2\n"), 2, 22),
        (format!("export A=1\nTOKEN='{CANARY}"), 2, 22),
    ];
    for (text, line, column) in lines {
        let told = Sources::read_dotenv(".env", &text).unwrap_err().to_string();
        assert!(!told.contains(CANARY), "{text:?} is told: {told}");
        let place = format!(".env: line {line}, column {column}, ");
        assert!(
            told.contains(&place) && told.contains("expected KEY=VALUE"),
            "{text:?}, {place}: {told}"
        );
    }
    let good = Sources::read_dotenv(".env", "A=1\n\n# comment\nB=\"two words\"\n").unwrap();
    assert_eq!(
        good.iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect::<Vec<_>>(),
        [("A", "1"), ("B", "two words")]
    );

    for (text, place) in [
        (format!("[store]\ntoken = \"{CANARY}\n"), "line 2, column "),
        (format!("[store]\n\ntoken = {CANARY}\n"), "line 3, column 9,"),
        (
            format!("[store]\ntoken = \"{CANARY}\"\ntoken = \"{CANARY}\"\n"),
            "line 3, column 1,",
        ),
    ] {
        let sources = Sources {
            overrides: vec![("vigie.toml".to_owned(), text.clone())],
            ..Sources::default()
        };
        let told = Settings::load(&[DEFAULTS], &[], &sources)
            .unwrap_err()
            .to_string();
        assert!(!told.contains(CANARY), "{text:?} is told: {told}");
        assert!(
            told.contains(&format!("vigie.toml: {place}")) && told.contains("expected readable TOML"),
            "{text:?}: {told}"
        );
    }
}

#[test]
fn secrets_are_masked_for_programs_too() {
    let settings = settings("token", CANARY);
    let shown = render_json(&settings);
    assert!(!shown.to_string().contains(CANARY), "{shown}");
    assert_eq!(shown["store"]["token"]["value"], "********");
    assert_eq!(
        shown["store"]["token"]["source"],
        "environment variable VIGIE__STORE__TOKEN"
    );
    assert_eq!(shown["store"]["recipients"]["value"], serde_json::json!([]));
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

#[test]
fn a_value_from_a_file_without_end_is_refused() {
    let sources = chassis::Sources {
        environment: std::collections::BTreeMap::from([("NATS_URL_FILE".to_owned(), "/dev/zero".to_owned())]),
        ..chassis::Sources::default()
    };
    let (defaults, aliases) = (
        [chassis::settings::COMMON_DEFAULTS],
        chassis::settings::COMMON_ALIASES,
    );
    let settings = chassis::Settings::load(&defaults, aliases, &sources).unwrap();
    let problems = chassis::Reader::new(&settings).finish().unwrap_err().to_string();
    assert!(
        problems.contains("more than 65536 bytes") && problems.contains("NATS_URL_FILE"),
        "{problems}"
    );
}

#[test]
fn secrets_in_a_file_that_everybody_can_read_are_named_without_being_shown() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vigie.toml");
    let text = format!(
        "[store]\npassword = \"{CANARY}\"\nurl = \"postgres://vigie:{CANARY}@db.example.org/fraud_db\"\ntoken = \"\"\n"
    );
    std::fs::write(&path, text).unwrap();
    let mut sources = Sources {
        file: Some(path.clone()),
        ..Sources::default()
    };
    sources
        .environment
        .insert("VIGIE__STORE__NKEY".to_owned(), CANARY.to_owned());
    let exposed = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let settings = Settings::load(&[DEFAULTS], &[], &sources).unwrap();
        settings
            .exposed_secrets()
            .map(|(file, keys)| (file.to_owned(), keys))
    };
    let keys = vec!["store.password".to_owned(), "store.url".to_owned()];
    assert_eq!(exposed(0o644), Some((path.display().to_string(), keys)));
    assert_eq!(exposed(0o640), None);
}
