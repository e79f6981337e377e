//! Mistakes: all at once, each with key, value, range and source.

use std::process::ExitCode;
use std::time::Duration;

use chassis::service::{EXIT_SETTINGS, check, refuse_to_start};
use chassis::settings::Problem;
use chassis::{Problems, Reader, Settings, Sources};

use crate::child::Toy;

const DEFAULTS: &str = r#"
[policy]
cooldown = "48h"
rows_min = 10000
share = 0.5
enabled = true
mode = "mean"
schedule = "0 2 * * *"
url = "http://127.0.0.1/"
"#;

fn problems_of(file: &str, read: impl Fn(&Reader<'_>)) -> Vec<Problem> {
    let sources = Sources {
        overrides: vec![("vigie.toml".to_owned(), file.to_owned())],
        ..Sources::default()
    };
    let settings = Settings::load(&[DEFAULTS], &[], &sources).unwrap();
    let reader = Reader::new(&settings);
    read(&reader);
    reader
        .finish()
        .map_or_else(|Problems(problems)| problems, |()| Vec::new())
}

fn read_all(reader: &Reader<'_>) {
    let policy = reader.section("policy");
    policy.duration(
        "cooldown",
        Duration::from_secs(3600)..=Duration::from_secs(30 * 86_400),
    );
    policy.integer("rows_min", 0..=1_000_000);
    policy.number("share", 0.0..=1.0);
    policy.flag("enabled");
    policy.choice("mode", &[("mean", 1), ("max", 2)]);
    policy.cron("schedule");
    policy.url("url", &["http", "https"]);
}

#[test]
fn the_defaults_themselves_are_right() {
    assert_eq!(problems_of("", read_all), []);
}

#[test]
fn every_mistake_is_told_in_one_round() {
    let file = r#"
        [policy]
        cooldown = "5m"
        rows_min = -1
        share = 1.01
        enabled = "perhaps"
        mode = "median"
        schedule = "hourly"
        url = "ftp://example.org"
        rows_minimum = 3
    "#;
    let problems = problems_of(file, read_all);
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    for key in [
        "cooldown",
        "rows_min",
        "share",
        "enabled",
        "mode",
        "schedule",
        "url",
        "rows_minimum",
    ] {
        assert!(
            keys.contains(&format!("policy.{key}").as_str()),
            "{key} is not among {keys:?}"
        );
    }
    assert_eq!(problems.len(), 8, "{problems:#?}");
    for problem in &problems {
        assert!(problem.value.is_some(), "{problem:?} shows the value found");
        assert_eq!(
            problem.source, "vigie.toml",
            "{problem:?} says where it was found"
        );
    }
    let shown = Problems(problems).to_string();
    for part in [
        "8 settings are wrong",
        "`policy.cooldown` is `5m` in vigie.toml; expected a duration between 1h and 30days",
        "`policy.rows_min` is `-1` in vigie.toml; expected a whole number between 0 and 1000000",
        "`policy.share` is `1.01` in vigie.toml; expected a number between 0 and 1",
        "`policy.enabled` is `perhaps` in vigie.toml; expected `true` or `false`",
        "`policy.mode` is `median` in vigie.toml; expected one of `mean`, `max`",
        "`policy.schedule` is `hourly`",
        "`policy.url` is `ftp://example.org` in vigie.toml; expected a URL that begins with `http://` or `https://`",
        "such as `policy.rows_min`",
    ] {
        assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
    }
}

#[test]
fn bounds_belong_to_the_range_and_what_is_no_number_does_not() {
    let number = |text: &str| {
        problems_of(&format!("[policy]\nshare = {text}"), |r| {
            r.section("policy").number("share", 0.0..=1.0);
        })
    };
    for good in ["0", "0.0", "1", "1.0", "0.5", "\"0.5\"", "1e-9"] {
        assert_eq!(number(good), [], "{good}");
    }
    for bad in [
        "-0.0001", "1.0001", "nan", "inf", "-inf", "\"NaN\"", "\"\"", "\"half\"", "[0.5]",
    ] {
        assert_eq!(number(bad).len(), 1, "{bad}: {:?}", number(bad));
    }
    let integer = |text: &str| {
        problems_of(&format!("[policy]\nrows_min = {text}"), |r| {
            r.section("policy").integer("rows_min", 1..=10);
        })
    };
    for good in ["1", "10", "\"7\""] {
        assert_eq!(integer(good), [], "{good}");
    }
    for bad in [
        "0",
        "11",
        "1.5",
        "1.0",
        "true",
        "\"1.5\"",
        "-1",
        "9223372036854775807",
        "\"99999999999999999999\"",
    ] {
        assert_eq!(integer(bad).len(), 1, "{bad}");
    }
    let duration = |text: &str| {
        problems_of(&format!("[policy]\ncooldown = {text}"), |r| {
            r.section("policy")
                .duration("cooldown", Duration::from_secs(1)..=Duration::from_secs(3600));
        })
    };
    for good in ["\"1s\"", "\"1h\"", "\"59m 59s\"", "\" 5m \""] {
        assert_eq!(duration(good), [], "{good}");
    }
    // A bare number has no unit.
    for bad in ["\"0s\"", "\"3601s\"", "\"-1s\"", "\"soon\"", "300", "\"\""] {
        assert_eq!(duration(bad).len(), 1, "{bad}");
    }
}

#[test]
fn a_missing_setting_is_a_mistake_that_says_what_is_expected() {
    let problems = problems_of("", |reader| {
        reader.section("policy").text("owner", "the owner's name");
    });
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].to_string(),
        "`policy.owner` is not set; expected the owner's name"
    );
}

#[test]
fn a_section_that_is_no_table_is_a_mistake_and_not_a_panic() {
    for file in ["policy = 3", "policy = []", "policy = \"x\""] {
        let problems = problems_of(file, read_all);
        assert!(!problems.is_empty(), "{file}");
    }
}

#[test]
fn settings_of_a_model_are_checked_against_its_own_list() {
    let problems = problems_of("[models.cards]\nsorce = \"postgres\"\n", |reader| {
        for (_, section) in reader.section("models").tables() {
            section.expect_only(&["source", "table"]);
            section.text("source", "`postgres` or `parquet`");
        }
    });
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{shown:?}");
    assert!(
        shown[0].contains("`models.cards.sorce`") && shown[0].contains("such as `source`"),
        "{shown:?}"
    );
    assert!(shown[1].contains("`models.cards.source` is not set"), "{shown:?}");
}

#[test]
fn a_service_with_wrong_settings_does_not_start_and_says_64() {
    let mut sources = Sources::default();
    assert_eq!(check::<Toy>(&sources), Ok(()));
    for (name, value) in [
        ("VIGIE__NATS__ACK_WAIT", "1s"),
        ("VIGIE__NATS__REPLICAS", "2"),
        ("VIGIE__DATABASE__CONNECTIONS_MAX", "1"),
        ("VIGIE__DATABASE__URL", "mysql://somewhere"),
        ("NATS_URL", "http://127.0.0.1"),
        ("VIGIE__CLOCK__SOURCE", "sundial"),
        ("VIGIE__TELEMETRY__SAMPLE", "2"),
        ("RUST_LOG", "=====,["),
        ("VIGIE__TOY__PATIENCE", "none"),
        ("VIGIE__TOY__PATIENSE", "1s"),
    ] {
        sources.environment.insert(name.to_owned(), value.to_owned());
    }
    let problems = check::<Toy>(&sources).unwrap_err();
    let keys: Vec<&str> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
    for key in [
        "nats.ack_wait",
        "nats.replicas",
        "nats.url",
        "database.connections_max",
        "database.url",
        "clock.source",
        "telemetry.sample",
        "telemetry.log",
        "toy.patience",
        "toy.patiense",
    ] {
        assert_eq!(
            keys.iter().filter(|found| **found == key).count(),
            1,
            "{key} is told once: {keys:?}"
        );
    }
    assert_eq!(refuse_to_start(&problems), ExitCode::from(EXIT_SETTINGS));
    assert_eq!(EXIT_SETTINGS, 64);
}
