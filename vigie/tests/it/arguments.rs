//! Exit codes and answers that need no servers.

use serde_json::Value;

use crate::{told, vigie};

#[test]
fn wrong_arguments_end_with_64_and_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("folder.parquet")).unwrap();
    let cases: [(&[&str], &str); 17] = [
        (&["simulate", "--out", "folder.parquet"], "is a folder"),
        (&["demo", "--days", "0"], "`days` is 0"),
        (&["simulate", "--out", "x.parquet", "--days", "0"], "`days` is 0"),
        (
            &["simulate", "--out", "x.parquet", "--drift", "amount:factor=2"],
            "`amount` is unknown",
        ),
        (
            &[
                "simulate",
                "--out",
                "x.parquet",
                "--drift",
                "amount-shift:factor=2,day=75",
            ],
            "after the last day",
        ),
        (&["simulate", "--out", "x.csv"], "ends in `.parquet`"),
        (&["simulate", "--out", "payments"], "ends in `.parquet`"),
        (&["retrain", "m", "--reason", " "], "`--reason` must not be empty"),
        (&["events", "tail", "--subject", "drift..checked"], "`--subject`"),
        (&["events", "tail", "--subject", "drfit.>"], "which no event has"),
        (
            &["check", "m", "--as-of", "2999-01-01T00:00:00Z"],
            "has not come yet",
        ),
        (&["check", "m", "--as-of", "today"], "2026-03-01T00:00:00Z"),
        (&["audit", "show"], "--correlation <ID>|--event <ID>"),
        (
            &["audit", "show", "--event", "last"],
            "309cbac0-6cb6-594d-9605-dcc73415d652",
        ),
        (
            &["audit", "verify", "--anchor", "notifier:1"],
            "SERVICE:LINK:HASH",
        ),
        (&["models", "at", "noon"], "2026-03-01T00:00:00Z"),
        (&["models", "at"], "<INSTANT>"),
    ];
    for (arguments, sentence) in cases {
        let (code, out, err) = told(&vigie(folder.path()).args(arguments).output().unwrap());
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}: {err}");
        assert!(err.contains(sentence), "{arguments:?}: {err}");
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing was written"
    );
}

#[test]
fn mistakes_and_settings_can_be_read_by_programs() {
    let folder = tempfile::tempdir().unwrap();
    let run = |what: &str| {
        let mut command = vigie(folder.path());
        let command = command.args(["--output", "json", "config", what]);
        let (code, out, err) = told(&command.output().unwrap());
        let answer: Value = serde_json::from_str(&out).unwrap();
        (code, answer, err)
    };
    let (code, shown, _) = run("show");
    assert_eq!(code, 0);
    assert_eq!(shown["policy"]["cooldown"]["source"], "the compiled-in defaults");
    assert_eq!(shown["nats"]["replicas"]["value"], 1);

    std::fs::write(
        folder.path().join("vigie.toml"),
        "[drft]\n[policy]\ncooldown = \"soon\"\n",
    )
    .unwrap();
    let (code, answer, err) = run("check");
    assert_eq!((code, err.as_str()), (64, ""));
    let mistakes = answer["mistakes"].as_array().unwrap();
    let mut keys: Vec<&str> = mistakes
        .iter()
        .filter_map(|mistake| mistake["key"].as_str())
        .collect();
    keys.sort_unstable();
    assert_eq!(
        (&answer["ok"], keys),
        (&Value::Bool(false), vec!["drft", "policy.cooldown"])
    );
    assert!(mistakes.iter().all(|mistake| mistake["source"] == "vigie.toml"));

    std::fs::write(folder.path().join(".env"), "DATABRICKS_TOKEN=canary second\n").unwrap();
    let (code, answer, err) = run("show");
    assert_eq!((code, err.as_str()), (64, ""));
    assert_eq!(answer["mistakes"][0]["source"], ".env");
    assert!(!answer.to_string().contains("canary"), "{answer}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["config", "show"][..],
        &["config", "check", "--output", "json"],
        &["--help"],
        &[
            "simulate",
            "--out",
            "x.parquet",
            "--days",
            "1",
            "--warm-up-days",
            "0",
            "--customers",
            "10",
        ],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = vigie(folder.path())
            .args(arguments)
            .stdout(writer)
            .output()
            .unwrap();
        let (code, _, err) = told(&output);
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn a_check_of_settings_says_which_models_are_watched() {
    let folder = tempfile::tempdir().unwrap();
    let check = || {
        let output = vigie(folder.path()).args(["config", "check"]).output().unwrap();
        let (code, out, err) = told(&output);
        assert_eq!(code, 0, "{err}");
        out
    };
    assert!(check().contains("no model is watched"));
    let model = "[models.fraud-cards]\nsource = \"postgres\"\ntable = \"bank.payment\"\ntime = \"at\"\nlabel = \"is_fraud\"\n\
                 label_delay = \"1d\"\nfeatures = [\"amount\"]\n";
    std::fs::write(folder.path().join("vigie.toml"), model).unwrap();
    assert!(check().contains("models: fraud-cards"));
}
