//! Settings: TOML text and environment, as people write and break them.

use std::collections::BTreeMap;

use bad_input::{Target, Verdict};
use chassis::bus::NatsSettings;
use chassis::db::DatabaseSettings;
use chassis::settings::{COMMON_ALIASES, COMMON_DEFAULTS, render, render_json};
use chassis::telemetry::TelemetrySettings;
use chassis::{Problems, Reader, Settings, Sources};
use transactions::{DataFile, ModelDefinition, SourceDefinition};

const WORDS: &[&str] = &[
    "[database]\n",
    "[nats]\n",
    "[models.a]\n",
    "[models.\"x.y\"]\n",
    "[telemetry]\n",
    "url = ",
    "\"postgres://u:p@h/d\"",
    "connections_max = ",
    "ack_wait = \"30s\"\n",
    "table = \"bank.payment\"\n",
    "features = [\"a\", \"b\"]\n",
    "segments = [\"a\", \"c\"]\n",
    "weights = [\"a=2.5\"]\n",
    "source = \"parquet\"\n",
    "path = \"x\"\n",
    "---\n",
    "VIGIE__NATS__URL=",
    "FRAUD_DATABASE_URL=",
    "RUST_LOG=",
    "VIGIE__MODELS__A__TIME=",
    "VIGIE__",
    "__",
    "'''",
    "\"\"\"",
    "1e400",
    "nan",
    "inf",
    "18446744073709551615",
    "-1",
    "0x7f",
    "2026-01-01T00:00:00Z",
    "a.b.c = {}\n",
    "[[x]]\n",
];
/// Stands where a secret would: in what cannot be read nobody knows which part is one.
const CANARY: &str = "c4n4ry";
const BYTES_MAX: usize = 65_536;
/// A line of a mistake is for people.
const LINE_MAX: usize = 20_000;

fn refused(problems: &Problems) -> Verdict {
    assert!(!problems.0.is_empty());
    for problem in &problems.0 {
        assert!(
            !problem.expected.is_empty() && !problem.source.is_empty(),
            "{problem:?}"
        );
    }
    let shown = problems.to_string();
    assert!(shown.lines().all(|line| line.len() <= LINE_MAX), "{shown}");
    let form = problems
        .0
        .iter()
        .any(|problem| problem.key.is_empty() && problem.source == "test.toml");
    if form {
        assert!(!shown.contains(CANARY), "{shown}");
        return Err("no_toml".to_owned());
    }
    Err("mistakes".to_owned())
}

fn read(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Err("not_text".to_owned());
    };
    let (toml, variables) = text.split_once("---\n").unwrap_or((text, ""));
    let environment: BTreeMap<String, String> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        // Values from files are read from files.
        .filter(|(name, _)| !name.to_ascii_lowercase().ends_with("_file"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let sources = Sources {
        overrides: vec![("test.toml".to_owned(), toml.to_owned())],
        environment,
        ..Sources::default()
    };
    let load = || {
        Settings::load(
            &[COMMON_DEFAULTS, transactions::DEFAULTS],
            COMMON_ALIASES,
            &sources,
        )
    };
    let settings = match load() {
        Ok(settings) => settings,
        Err(problems) => return refused(&problems),
    };
    // What is in force can be shown, and twice the same.
    let shown = render(&settings);
    assert_eq!(shown, load().map(|settings| render(&settings)).unwrap());
    let _ = render_json(&settings);
    let reader = Reader::new(&settings);
    let database = DatabaseSettings::read(&reader);
    let nats = NatsSettings::read(&reader);
    let telemetry = TelemetrySettings::read(&reader);
    let models = ModelDefinition::read_all(&reader);
    if let Err(problems) = reader.finish() {
        return refused(&problems);
    }
    assert!((2..=100).contains(&database.connections_max));
    assert!(database.url.expose().starts_with("postgres"));
    assert!([1, 3, 5].contains(&nats.replicas) && (5..=3_600).contains(&nats.ack_wait.as_secs()));
    assert!((0.0..=1.0).contains(&telemetry.sample));
    for model in &models {
        assert_eq!(again(model).as_ref(), Some(model), "{toml}");
    }
    Ok(())
}

/// A model written as TOML and read again.
fn again(model: &ModelDefinition) -> Option<ModelDefinition> {
    let mut table = toml::Table::new();
    let mut set = |name: &str, value: toml::Value| table.insert(name.to_owned(), value);
    match &model.source {
        SourceDefinition::Postgres { schema, table } => {
            set("source", "postgres".into());
            set("table", format!("{schema}.{table}").into());
        }
        SourceDefinition::Databricks { table } => {
            set("source", "databricks".into());
            set("table", table.join(".").into());
        }
        SourceDefinition::File(file) => {
            let (kind, path) = match file {
                DataFile::Parquet(path) => ("parquet", path),
                DataFile::Csv(path) => ("csv", path),
            };
            set("source", kind.into());
            set("path", path.to_str()?.into());
        }
    }
    set("time", model.time.clone().into());
    set("label", model.label.clone().into());
    set(
        "label_delay",
        format!("{}ns", model.label_delay.as_nanos()).into(),
    );
    for (name, value) in [
        ("label_time", &model.label_time),
        ("score", &model.score),
        ("id", &model.id),
    ] {
        if let Some(value) = value {
            set(name, value.clone().into());
        }
    }
    let columns = |keep: &dyn Fn(&transactions::definition::FeatureDefinition) -> bool| {
        let kept = model.features.iter().filter(|feature| keep(feature));
        kept.map(|feature| toml::Value::from(feature.column.clone()))
            .collect::<Vec<_>>()
    };
    set("features", columns(&|_| true).into());
    set("not_monitored", columns(&|feature| !feature.monitored).into());
    set("categories", columns(&|feature| feature.categorical).into());
    let texts = |list: Vec<String>| list.into_iter().map(toml::Value::from).collect::<Vec<_>>();
    let weights = model
        .features
        .iter()
        .map(|feature| format!("{}={}", feature.column, feature.weight));
    set("weights", texts(weights.collect()).into());
    set("segments", texts(model.segments.clone()).into());
    let mut models = toml::Table::new();
    models.insert(model.model.as_str().to_owned(), table.into());
    let mut root = toml::Table::new();
    root.insert("models".to_owned(), models.into());
    let sources = Sources {
        overrides: vec![("again.toml".to_owned(), root.to_string())],
        ..Sources::default()
    };
    let settings = Settings::load(&[transactions::DEFAULTS], &[], &sources).ok()?;
    let reader = Reader::new(&settings);
    let read = ModelDefinition::read_all(&reader).pop();
    reader.finish().map_err(|problems| eprintln!("{problems}")).ok()?;
    read
}

#[test]
fn any_settings_are_read_or_all_their_mistakes_told() {
    let target = Target {
        name: "settings",
        words: WORDS,
        samples: Vec::new(),
        bytes_max: BYTES_MAX,
        slow: true,
        read: &read,
    };
    target.run();
}

fn read_dotenv(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Err("not_text".to_owned());
    };
    match Sources::read_dotenv(".env", text) {
        Ok(_) => Ok(()),
        Err(problems) => {
            let shown = problems.to_string();
            assert!(!shown.contains(CANARY), "{shown}");
            Err("not_readable".to_owned())
        }
    }
}

#[test]
fn any_dotenv_is_read_or_refused_without_being_shown() {
    let target = Target {
        name: "dotenv",
        words: &[
            "A=", "export ", "'", "\"", "${A}", "$", "\\", "#", "\r\n", " = ", CANARY,
        ],
        samples: Vec::new(),
        bytes_max: BYTES_MAX,
        slow: false,
        read: &read_dotenv,
    };
    target.run();
}
