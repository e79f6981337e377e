//! Which source wins, and what a key may be called.

use chassis::settings::render;
use chassis::{Alias, Reader, Settings, Sources};

const DEFAULTS: &str = r#"
[drift]
# A number.
data_threshold = 0.3
channels = ["mail"]
label = ""
[store]
token = ""
path = "/default"
"#;

const ALIASES: &[Alias] = &[
    Alias {
        name: "DATA_DRIFT_THRESHOLD",
        key: "drift.data_threshold",
    },
    Alias {
        name: "STORE_TOKEN",
        key: "store.token",
    },
];

fn load(sources: &Sources) -> Settings {
    Settings::load(&[DEFAULTS], ALIASES, sources).unwrap()
}

fn threshold(sources: &Sources) -> f64 {
    let settings = load(sources);
    let reader = Reader::new(&settings);
    let found = reader.section("drift").number("data_threshold", 0.0..=10.0);
    reader.finish().unwrap();
    found
}

fn text(sources: &Sources, section: &str, name: &str) -> Option<String> {
    let settings = load(sources);
    let reader = Reader::new(&settings);
    let found = reader.section(section).optional_text(name);
    reader.finish().unwrap();
    found
}

fn file(text: &str) -> (tempfile::TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vigie.toml");
    std::fs::write(&path, text).unwrap();
    (
        folder,
        Sources {
            file: Some(path),
            ..Sources::default()
        },
    )
}

#[test]
fn each_source_beats_the_ones_before_it() {
    let mut sources = Sources::default();
    assert_eq!(threshold(&sources), 0.3, "the compiled-in default");
    let (_folder, with_file) = file("[drift]\ndata_threshold = 0.4\n");
    sources.file = with_file.file;
    assert_eq!(threshold(&sources), 0.4, "the file");
    sources
        .overrides
        .push(("the demo".to_owned(), "[drift]\ndata_threshold = 0.45".to_owned()));
    assert_eq!(threshold(&sources), 0.45, "what a demo sets");
    sources
        .dotenv
        .insert("DATA_DRIFT_THRESHOLD".to_owned(), "0.5".to_owned());
    assert_eq!(threshold(&sources), 0.5, ".env");
    sources
        .dotenv
        .insert("VIGIE__DRIFT__DATA_THRESHOLD".to_owned(), "0.55".to_owned());
    assert_eq!(
        threshold(&sources),
        0.55,
        "the general form in .env is more deliberate than the document's name"
    );
    sources
        .environment
        .insert("DATA_DRIFT_THRESHOLD".to_owned(), "0.6".to_owned());
    assert_eq!(threshold(&sources), 0.6, "the document's name in the environment");
    sources
        .environment
        .insert("VIGIE__DRIFT__DATA_THRESHOLD".to_owned(), "0.7".to_owned());
    assert_eq!(threshold(&sources), 0.7, "the general form in the environment");
}

#[test]
fn a_source_says_nothing_about_keys_that_it_does_not_hold() {
    let (_folder, mut sources) = file("[store]\npath = \"/file\"\n");
    sources
        .environment
        .insert("VIGIE__DRIFT__DATA_THRESHOLD".to_owned(), "1".to_owned());
    assert_eq!(text(&sources, "store", "path").as_deref(), Some("/file"));
    assert_eq!(threshold(&sources), 1.0);
}

#[test]
fn an_empty_text_means_not_set() {
    let mut sources = Sources::default();
    assert_eq!(text(&sources, "drift", "label"), None);
    sources
        .environment
        .insert("VIGIE__STORE__PATH".to_owned(), String::new());
    assert_eq!(
        text(&sources, "store", "path"),
        None,
        "the environment can switch a default off"
    );
    // An empty document name is what `export DATA_DRIFT_THRESHOLD=` or a compose file leaves behind.
    sources
        .environment
        .insert("DATA_DRIFT_THRESHOLD".to_owned(), String::new());
    assert_eq!(threshold(&sources), 0.3);
}

#[test]
fn any_variable_may_name_a_file_instead() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("token");
    std::fs::write(&secret, "s3cr3t\n").unwrap();
    let path = secret.display().to_string();
    for name in ["STORE_TOKEN_FILE", "VIGIE__STORE__TOKEN_FILE"] {
        let mut sources = Sources::default();
        sources.environment.insert(name.to_owned(), path.clone());
        assert_eq!(
            text(&sources, "store", "token").as_deref(),
            Some("s3cr3t"),
            "{name}, without its line end"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake_that_names_variable_and_file() {
    for name in ["STORE_TOKEN_FILE", "VIGIE__STORE__TOKEN_FILE"] {
        let mut sources = Sources::default();
        sources
            .environment
            .insert(name.to_owned(), "/nowhere/at/all".to_owned());
        let settings = load(&sources);
        let problems = Reader::new(&settings).finish().unwrap_err();
        let shown = problems.to_string();
        for part in ["store.token", "/nowhere/at/all", name] {
            assert!(shown.contains(part), "`{part}` is missing in: {shown}");
        }
    }
}

#[test]
fn lists_come_from_arrays_and_from_commas() {
    let (_folder, mut sources) = file("[drift]\nchannels = [\"mail\", \"slack\"]\n");
    let channels = |sources: &Sources| {
        let settings = load(sources);
        Reader::new(&settings).section("drift").list("channels")
    };
    assert_eq!(channels(&sources), ["mail", "slack"]);
    sources.environment.insert(
        "VIGIE__DRIFT__CHANNELS".to_owned(),
        " a@x.org, b@x.org ,,".to_owned(),
    );
    assert_eq!(channels(&sources), ["a@x.org", "b@x.org"]);
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_said_at_once() {
    let missing = Sources {
        file: Some("/nowhere/vigie.toml".into()),
        ..Sources::default()
    };
    let problems = Settings::load(&[DEFAULTS], ALIASES, &missing)
        .unwrap_err()
        .to_string();
    assert!(
        problems.contains("/nowhere/vigie.toml") && problems.contains("does not exist"),
        "{problems}"
    );
    let (_folder, broken) = file("[drift\ndata_threshold = 0.4");
    let problems = Settings::load(&[DEFAULTS], ALIASES, &broken)
        .unwrap_err()
        .to_string();
    assert!(
        problems.contains("vigie.toml") && problems.contains("line 1"),
        "{problems}"
    );
}

#[test]
fn sections_of_other_services_are_none_of_our_business() {
    let (_folder, sources) = file("[policy]\nanything = 1\n[drift]\ndata_threshold = 0.9\n");
    assert!(Reader::new(&load(&sources)).finish().is_ok());
}

#[test]
fn a_section_that_nobody_knows_is_told_with_the_other_mistakes() {
    let (_folder, mut sources) = file("log = \"info\"\n[drft]\n[drift]\ndata_treshold = 0.9\n");
    sources
        .environment
        .insert("VIGIE__POLCY__COOLDOWN".to_owned(), "7d".to_owned());
    let problems = Reader::new(&load(&sources)).finish().unwrap_err();
    let told: Vec<(&str, bool)> = problems
        .0
        .iter()
        .map(|problem| (problem.key.as_str(), problem.source.ends_with("vigie.toml")))
        .collect();
    assert_eq!(
        told,
        [
            ("drft", true),
            ("log", true),
            ("polcy", false),
            ("drift.data_treshold", true)
        ]
    );
    let shown = problems.to_string();
    for part in [
        "such as `[drift]`",
        "such as `[policy]`",
        "environment variable VIGIE__POLCY__COOLDOWN",
        "such as `drift.data_threshold`",
    ] {
        assert!(shown.contains(part), "`{part}` is missing in: {shown}");
    }
}

#[test]
fn tables_named_by_the_user_may_have_any_name_a_model_may_have() {
    let names = [
        "fraud-cards",
        "Fraud Cards",
        "fraud.v2",
        "'; drop table x; --",
        "<img src=x>",
        "é",
        "a[0]",
        "0",
    ];
    let tables: String = names
        .iter()
        .map(|name| {
            format!(
                "[models.{}]\nsource = \"source of {}\"\n",
                toml_key(name),
                name.replace('"', "")
            )
        })
        .collect();
    let (_folder, sources) = file(&tables);
    let settings = load(&sources);
    let reader = Reader::new(&settings);
    let mut expected: Vec<&str> = names.to_vec();
    expected.sort_unstable();
    let found = reader.section("models").tables();
    assert_eq!(
        found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        expected
    );
    for (name, section) in found {
        assert_eq!(section.optional_text("source"), Some(format!("source of {name}")));
        section.expect_only(&["source"]);
        assert!(!section.is_set("missing"));
    }
    reader.finish().unwrap();
    let shown = render(&settings);
    assert!(
        shown.parse::<toml::Table>().is_ok(),
        "what is shown can be read again: {shown}"
    );
}

fn toml_key(name: &str) -> String {
    toml::Value::String(name.to_owned()).to_string()
}

#[test]
fn a_setting_of_a_model_can_come_from_the_environment() {
    let (_folder, mut sources) = file("[models.cards]\nsource = \"postgres\"\n");
    sources
        .environment
        .insert("VIGIE__MODELS__CARDS__SOURCE".to_owned(), "parquet".to_owned());
    let settings = load(&sources);
    let reader = Reader::new(&settings);
    let tables = reader.section("models").tables();
    assert_eq!(tables.len(), 1);
    assert_eq!(tables[0].1.optional_text("source").as_deref(), Some("parquet"));
}
