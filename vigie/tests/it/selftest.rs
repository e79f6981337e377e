//! What the rules do on a file in which nothing moves, and in which something is planted.

use serde_json::Value;

use crate::report::plain;
use crate::{told, vigie};

fn share(found: &Value, rule: &str) -> f64 {
    let rates = found["rates"].as_array().unwrap();
    let rate = rates.iter().find(|rate| rate["rule"] == rule).unwrap();
    rate["share"].as_f64().unwrap()
}

#[test]
fn evidence_keeps_its_word_and_fixed_thresholds_do_not() {
    let folder = tempfile::tempdir().unwrap();
    plain(12_000).write(&folder.path().join("reference.csv"));
    let run = |seed: &str| {
        let output = vigie(folder.path())
            .args([
                "selftest",
                "reference.csv",
                "--rows",
                "100,2000,1000000",
                "--windows",
                "100",
            ])
            .args(["--ignore", "is_fraud", "--seed", seed, "--output", "json"])
            .output()
            .unwrap();
        let (code, out, err) = told(&output);
        assert_eq!(code, 0, "{err}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let answer = run("1");
    assert_eq!(answer["schema"], "vigie.selftest.v1");
    let alarms = answer["false_alarms"].as_array().unwrap();
    assert_eq!(alarms.len(), 2, "no window is larger than the file allows");
    let left: Vec<&str> = answer["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|left| left["column"].as_str().unwrap())
        .collect();
    assert_eq!(left, ["time", "is_fraud", "id"]);
    let (small, large) = (&alarms[0], &alarms[1]);
    assert_eq!(
        [&small["rows"], &large["rows"]],
        [&Value::from(100), &Value::from(2_000)]
    );
    // A hundred rows move a PSI of ten bins by 0.09 on average, and two features have ten.
    assert!(share(small, "psi > 0.1") > 0.4, "{small}");
    assert!(share(large, "psi > 0.1") < 0.01, "{large}");
    // Of a hundred windows one is expected; windows of one division are not independent.
    for size in [small, large] {
        assert!(
            share(size, "evidence") <= 0.06
                && share(size, "told") <= 0.06
                && share(size, "retrain") <= share(size, "told"),
            "{size}"
        );
    }
    let power = |rows: u64, feature: &str, change: &str| {
        let all = answer["power"].as_array().unwrap();
        all.iter()
            .find(|found| found["rows"] == rows && found["feature"] == feature && found["change"] == change)
            .unwrap_or_else(|| panic!("{rows} {feature} {change} in {answer:#}"))
    };
    assert_eq!(share(power(2_000, "distance", "mean + 0.5 sd"), "evidence"), 1.0);
    assert_eq!(share(power(2_000, "channel", "5 % go missing"), "evidence"), 1.0);
    assert!(share(power(100, "distance", "mean + 0.1 sd"), "evidence") < 0.5);
    assert_eq!(run("1"), answer, "the same seed draws the same windows");
    assert_ne!(run("2")["false_alarms"], answer["false_alarms"]);
}

#[test]
fn a_file_that_is_too_small_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    plain(300).write(&folder.path().join("reference.csv"));
    let output = vigie(folder.path())
        .args(["selftest", "reference.csv"])
        .output()
        .unwrap();
    let (code, _, err) = told(&output);
    assert_eq!(code, 64, "{err}");
    assert!(
        err.contains("windows can have 60; `--rows` asks for more"),
        "{err}"
    );
    let output = vigie(folder.path())
        .args(["selftest", "reference.csv", "--rows", "50", "--windows", "10"])
        .output()
        .unwrap();
    let (code, out, err) = told(&output);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("50 (10 windows)") && out.contains("mean + 0.5 sd"),
        "{out}"
    );
}
