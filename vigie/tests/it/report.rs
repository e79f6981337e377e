//! Two files compared without any server.

use std::fmt::Write as _;
use std::path::Path;

use local_stack::hostile::NAMES;
use serde_json::Value;

use crate::{told, vigie};

/// Rows of a table unless a test says otherwise.
const ROWS: u32 = 4_000;

/// A number between 0 and 1 that depends on row and column alone.
fn draw(row: u32, column: u32) -> f64 {
    let mut state = u64::from(row) << 32 | u64::from(column);
    state = (state ^ (state >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    f64::from((state ^ (state >> 32)) as u32) / f64::from(u32::MAX)
}

/// What a file is made of: a fixed sequence, so that files differ only in what a test plants.
pub struct Table {
    pub rows: u32,
    /// Where in the sequence it begins.
    from: u32,
    shift: f64,
    /// Every second stretch of so many rows is shifted by as much more; 0 for none.
    unrest: (u32, f64),
    /// The shift of payments online alone.
    online: f64,
    unit: f64,
    fraud: f64,
    without: &'static str,
    empty: &'static str,
}

const PLAIN: Table = Table {
    rows: ROWS,
    from: 0,
    shift: 0.0,
    unrest: (1, 0.0),
    online: 0.0,
    unit: 1.0,
    fraud: 0.05,
    without: "",
    empty: "",
};

/// So many rows in which nothing is odd.
pub fn plain(rows: u32) -> Table {
    Table { rows, ..PLAIN }
}

impl Table {
    fn csv(&self) -> String {
        let names: Vec<&str> = [
            "id", "time", "amount", "distance", "channel", "night", "score", "is_fraud",
        ]
        .into_iter()
        .filter(|name| *name != self.without)
        .collect();
        let mut text = names.join(",") + "\n";
        for row in self.from..self.from + self.rows {
            let fraud = draw(row, 4) < self.fraud;
            let (stretch, unrest) = self.unrest;
            let channel = ["chip", "online", "mail"][(draw(row, 2) * 2.999) as usize];
            let online = if channel == "online" { self.online } else { 0.0 };
            let shift = self.shift + online + if row / stretch % 2 == 1 { unrest } else { 0.0 };
            let cells = names.iter().map(|name| match *name {
                name if name == self.empty => String::new(),
                "id" => row.to_string(),
                "time" => format!("2026-01-{:02}T{:02}:00:00Z", 1 + row % 28, row % 24),
                "amount" => format!("{:.4}", ((draw(row, 0) - 0.5) * 3.0 + shift).exp() * self.unit),
                "distance" => format!("{:.4}", draw(row, 1) * 30.0),
                "channel" => channel.to_owned(),
                "night" => (draw(row, 3) < 0.3).to_string(),
                "score" => {
                    let hit = if fraud {
                        draw(row, 5) < 0.9
                    } else {
                        draw(row, 5) < 0.01
                    };
                    format!("{:.4}", if hit { 0.7 } else { 0.1 } + draw(row, 6) * 0.2)
                }
                _ => u8::from(fraud).to_string(),
            });
            let cells: Vec<String> = cells.collect();
            // Writing to a text cannot fail.
            let _infallible = writeln!(text, "{}", cells.join(","));
        }
        text
    }

    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.csv()).unwrap();
    }
}

/// The report of two tables.
fn compared(reference: &Table, current: &Table, arguments: &[&str]) -> (i32, Value, String) {
    let folder = tempfile::tempdir().unwrap();
    reference.write(&folder.path().join("before.csv"));
    current.write(&folder.path().join("now.csv"));
    let output = vigie(folder.path())
        .args([
            "report",
            "before.csv",
            "now.csv",
            "--output",
            "json",
            "--html",
            "page.html",
        ])
        .args(arguments)
        .output()
        .unwrap();
    let (code, out, err) = told(&output);
    assert!(!out.is_empty(), "{err}");
    let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    (code, serde_json::from_str(&out).unwrap(), page)
}

fn feature<'a>(report: &'a Value, name: &str) -> &'a Value {
    let features = report["features"].as_array().unwrap();
    features.iter().find(|feature| feature["name"] == name).unwrap()
}

const MEANING: &[&str] = &["--target", "is_fraud", "--score", "score"];

#[test]
fn what_did_not_move_is_stable_and_says_what_was_compared() {
    let later = Table {
        from: 1_000_000,
        ..PLAIN
    };
    let (code, report, page) = compared(&PLAIN, &later, MEANING);
    assert_eq!((code, &report["verdict"]), (0, &"stable".into()), "{report:#}");
    assert_eq!(report["schema"], "vigie.report.v1");
    assert_eq!(
        [&report["reference"]["rows"], &report["current"]["rows"]],
        [&Value::from(ROWS), &Value::from(ROWS)]
    );
    let left: Vec<&str> = report["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|left| left["column"].as_str().unwrap())
        .collect();
    assert_eq!(
        left,
        ["id", "time"],
        "the number of a row and an instant are no features"
    );
    assert_eq!(report["features"].as_array().unwrap().len(), 5);
    assert_eq!(feature(&report, "channel")["kind"], "category");
    assert_eq!(feature(&report, "night")["kind"], "number");
    assert!(page.contains("<h1><span class=\"good\">Stable</span></h1>"));
    for (name, low, high) in [("recall", 0.8, 1.0), ("precision", 0.7, 1.0)] {
        let rates = report["performance"].as_array().unwrap();
        let rate = rates.iter().find(|rate| rate["name"] == name).unwrap();
        let value = rate["current"]["value"].as_f64().unwrap();
        assert!((low..=high).contains(&value), "{rate}");
    }
}

#[test]
fn what_moved_comes_first_with_the_numbers_that_say_how() {
    let moved = Table {
        from: 1_000_000,
        shift: 0.9,
        ..PLAIN
    };
    let (code, report, page) = compared(&PLAIN, &moved, MEANING);
    assert_eq!((code, &report["verdict"]), (2, &"drifted".into()), "{report:#}");
    assert_eq!(report["drifted"], serde_json::json!(["data"]));
    let first = &report["features"][0];
    assert_eq!(
        (&first["name"], &first["exceeded"]),
        (&"amount".into(), &true.into())
    );
    let [was, is] = [&first["summary"][0]["mean"], &first["summary"][1]["mean"]];
    assert!(is.as_f64().unwrap() > 2.0 * was.as_f64().unwrap(), "{first:#}");
    assert!(first["psi"].as_f64().unwrap() > 0.3 && first["p_value"].as_f64().unwrap() < 1e-9);
    let number = |name: &str| {
        let metrics = first["metrics"].as_array().unwrap();
        metrics.iter().find(|metric| metric["name"] == name).unwrap()
    };
    // A shift of 0.9 of a uniform of width 3: the functions are 0.3 apart.
    let range = &number("kolmogorov_smirnov")["range"];
    let (low, high) = (range[0].as_f64().unwrap(), range[1].as_f64().unwrap());
    assert!(low > 0.25 && high < 0.36 && low < high, "{low} {high}");
    assert!(!first["moved"].as_array().unwrap().is_empty());
    for quiet in &report["features"].as_array().unwrap()[1..] {
        assert_eq!(quiet["exceeded"], false, "{quiet:#}");
    }
    assert!(
        page.contains("<details open><summary>amount"),
        "what moved is open"
    );
    assert!(!page.contains("<details open><summary>distance"));
}

#[test]
fn a_little_that_many_rows_make_sure_is_told_and_is_no_reason_to_retrain() {
    let reference = Table {
        rows: 20_000,
        ..PLAIN
    };
    // A tenth of the standard deviation of the logarithm.
    let moved = Table {
        rows: 10_000,
        from: 1_000_000,
        shift: 0.087,
        ..PLAIN
    };
    let (code, report, page) = compared(&reference, &moved, &[]);
    assert_eq!(
        (code, &report["verdict"], &report["severity"]),
        (2, &"drifted".into(), &"alert_only".into()),
        "{report:#}"
    );
    let amount = &report["features"][0];
    assert_eq!(
        [&amount["name"], &amount["told"], &amount["exceeded"]],
        [&Value::from("amount"), &true.into(), &false.into()]
    );
    assert!(page.contains("no reason to retrain"));
    let (code, report, _) = compared(&reference, &moved, &["--tell-from", "0.3"]);
    assert_eq!((code, &report["verdict"]), (0, &"stable".into()), "{report:#}");
}

#[test]
fn what_parts_of_the_reference_differ_by_is_no_drift_of_the_current_file() {
    let later = Table {
        rows: 4_000,
        from: 1_000_000,
        shift: 0.3,
        ..PLAIN
    };
    // The same values in another order: by turns, or in stretches as weekends make them.
    let [mixed, restless] = [1, 2_000].map(|stretch| Table {
        rows: 20_000,
        unrest: (stretch, 0.3),
        ..PLAIN
    });
    let told = |reference: &Table| {
        let (_, report, _) = compared(reference, &later, &[]);
        let amount = feature(&report, "amount");
        (
            amount["told"].as_bool().unwrap(),
            amount["unrest"].as_f64().unwrap(),
        )
    };
    assert_eq!(told(&mixed), (true, 0.0));
    let (drifted, unrest) = told(&restless);
    assert!(!drifted && unrest > 0.005, "{unrest}");
}

#[test]
fn files_that_differ_in_how_features_move_together_are_told_apart_when_asked() {
    let moved = Table {
        from: 1_000_000,
        shift: 0.5,
        ..PLAIN
    };
    let later = Table {
        from: 1_000_000,
        ..PLAIN
    };
    let (_, report, _) = compared(&PLAIN, &moved, &[]);
    assert_eq!(report["together"], Value::Null, "nobody asked");
    let few = Table { rows: 150, ..PLAIN };
    let (_, report, _) = compared(&PLAIN, &few, &["--together"]);
    let missing = report["not_measured"].to_string();
    assert!(missing.contains("--together"), "{missing}");
    let (_, report, page) = compared(&PLAIN, &moved, &["--together"]);
    let together = &report["together"];
    assert_eq!(together["features"][0]["feature"], "amount", "{together}");
    assert!(together["interval"][0].as_f64().unwrap() > 0.5, "{together}");
    assert!(page.contains("can be told apart"));
    let (code, report, page) = compared(&PLAIN, &later, &["--together"]);
    assert!(
        report["together"]["interval"][0].as_f64().unwrap() < 0.5,
        "{report:#}"
    );
    assert_eq!(code, 0);
    assert!(page.contains("cannot be told apart"));
    let fits = &report["together"]["reconstruction"];
    assert!(fits["p_value"].as_f64().unwrap() > 0.001, "{fits}");
    assert!(fits["reference"].as_f64().unwrap() > 0.0 && page.contains("error of reconstruction"));
}

#[test]
fn the_segment_in_which_a_feature_moved_is_named_when_asked() {
    let now = Table {
        from: 900_000,
        online: 1.0,
        ..plain(20_000)
    };
    let (code, report, text) = compared(&plain(20_000), &now, &["--segment", "channel"]);
    assert_eq!(code, 2);
    let amount = feature(&report, "amount");
    let segments = amount["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 1, "{segments:?}");
    assert_eq!(
        (&segments[0]["column"], &segments[0]["level"]),
        (&"channel".into(), &"online".into())
    );
    assert!(segments[0]["psi"].as_f64().unwrap() > amount["psi"].as_f64().unwrap() * 2.0);
    assert!(text.contains("farthest in channel = online (PSI "), "{text}");
    assert!(
        feature(&report, "distance").get("segments").is_none(),
        "what did not move is quiet"
    );
    let (_, report, text) = compared(&plain(20_000), &now, &[]);
    assert!(feature(&report, "amount").get("segments").is_none() && !text.contains("farthest in"));
}

#[test]
fn more_frauds_and_missed_frauds_are_found_where_labels_are() {
    let more = Table {
        from: 1_000_000,
        fraud: 0.15,
        ..PLAIN
    };
    let (code, report, _) = compared(&PLAIN, &more, MEANING);
    assert_eq!(code, 2);
    assert!(
        report["drifted"].as_array().unwrap().contains(&"target".into()),
        "{report:#}"
    );
    assert_eq!(report["target"]["exceeded"], true);
    let (_, report, _) = compared(&PLAIN, &more, &["--ignore", "score", "--ignore", "is_fraud"]);
    assert_eq!(
        report["verdict"], "stable",
        "nobody said which column is the label"
    );
    assert_eq!(report["target"], Value::Null);
}

#[test]
fn data_that_changed_in_form_is_no_drift() {
    let cases = [
        (
            Table {
                without: "distance",
                ..PLAIN
            },
            "distance",
            "missing_column",
        ),
        (
            Table {
                empty: "distance",
                ..PLAIN
            },
            "distance",
            "all_missing",
        ),
        (Table { unit: 100.0, ..PLAIN }, "amount", "unit_changed"),
    ];
    for (current, column, kind) in cases {
        let (code, report, page) = compared(&PLAIN, &current, &[]);
        assert_eq!(
            (code, &report["verdict"]),
            (2, &"broken".into()),
            "{kind}: {report:#}"
        );
        let broken = report["breakage"].as_array().unwrap();
        assert_eq!(broken.len(), 1, "{broken:?}");
        assert_eq!(
            (&broken[0]["column"], &broken[0]["kind"]),
            (&column.into(), &kind.into())
        );
        assert!(page.contains("What broke"));
    }
    let folder = tempfile::tempdir().unwrap();
    PLAIN.write(&folder.path().join("before.csv"));
    let text = PLAIN
        .csv()
        .replace(",chip,", ",1,")
        .replace(",online,", ",2,")
        .replace(",mail,", ",3,");
    std::fs::write(folder.path().join("now.csv"), text).unwrap();
    let output = vigie(folder.path())
        .args(["report", "now.csv", "before.csv"])
        .output()
        .unwrap();
    let (code, out, _) = told(&output);
    assert_eq!(code, 2);
    assert!(
        out.contains("channel (type_changed): was whole number and is text"),
        "{out}"
    );
}

#[test]
fn a_small_file_could_not_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    PLAIN.write(&folder.path().join("before.csv"));
    let few: Vec<String> = PLAIN.csv().lines().take(50).map(str::to_owned).collect();
    std::fs::write(folder.path().join("now.csv"), few.join("\n")).unwrap();
    let output = vigie(folder.path())
        .args(["report", "before.csv", "now.csv"])
        .output()
        .unwrap();
    let (code, out, _) = told(&output);
    assert_eq!(code, 3, "{out}");
    assert!(out.starts_with("UNKNOWN"), "{out}");
    assert!(out.contains("49 rows in the window, 500 are needed"), "{out}");
    let output = vigie(folder.path())
        .args(["check", "--files", "before.csv", "now.csv"])
        .output()
        .unwrap();
    let (code, said, _) = told(&output);
    assert_eq!((code, said), (3, out), "a check of files says the same");
}

#[test]
fn kinds_are_found_out_unless_somebody_knows_better() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut text = "code;name;amount\n".to_owned();
    for row in 0..30_000_u32 {
        // Writing to a text cannot fail.
        let _infallible = writeln!(text, "{row};payment {row};{:.3}", draw(row, 0));
    }
    std::fs::write(path.join("a.csv"), &text).unwrap();
    std::fs::write(
        path.join("b.tsv"),
        text.replace("payment", "transfer").replace(';', "\t"),
    )
    .unwrap();
    let run = |arguments: &[&str]| {
        let output = vigie(path)
            .args(["report", "a.csv", "b.tsv", "--output", "json"])
            .args(arguments)
            .output()
            .unwrap();
        let (_, out, err) = told(&output);
        serde_json::from_str::<Value>(&out).unwrap_or_else(|_| panic!("{err}"))
    };
    let names = |report: &Value, list: &str, key: &str| -> Vec<String> {
        let all = report[list].as_array().unwrap().iter();
        all.map(|one| one[key].as_str().unwrap().to_owned()).collect()
    };
    let report = run(&[]);
    assert_eq!(names(&report, "left_out", "column"), ["code", "name"]);
    assert_eq!(names(&report, "features", "name"), ["amount"]);
    let report = run(&[
        "--type",
        "code=category",
        "--feature",
        "amount",
        "--feature",
        "code",
    ]);
    assert_eq!(feature(&report, "code")["kind"], "category");
    let output = vigie(path)
        .args(["report", "a.csv", "b.tsv", "--type", "name=number"])
        .output()
        .unwrap();
    let (code, _, err) = told(&output);
    assert_eq!(code, 64, "{err}");
    assert!(err.contains("`--type name=…`: it holds text in a.csv"), "{err}");
}

#[test]
fn mistakes_name_the_file_the_column_and_what_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    PLAIN.write(&path.join("a.csv"));
    std::fs::write(path.join("empty.csv"), "").unwrap();
    std::fs::write(path.join("no.parquet"), "no parquet").unwrap();
    std::fs::write(path.join("odd.csv"), "amount,is_fraud\n1,0\n2,7\n").unwrap();
    std::fs::write(path.join("score.csv"), "amount,score\n1,0.5\n2,85\n").unwrap();
    let cases: [(&[&str], i32, &str); 14] = [
        (
            &["score.csv", "score.csv", "--score", "score"],
            64,
            "holds 85 in score.csv; expected numbers from 0 to 1",
        ),
        (
            &["a.csv", "a.csv", "--type", "time=category"],
            64,
            "it holds instant in a.csv",
        ),
        (
            &["a.csv", "a.csv", "--segment", "id"],
            64,
            "`--segment id` has more than 200 levels",
        ),
        (
            &["a.csv", "a.csv", "--segment", "country"],
            64,
            "a.csv has no column `country`",
        ),
        (
            &["a.csv", "a.csv", "--segment", "time"],
            64,
            "`--segment time` holds instant in a.csv; expected texts or numbers",
        ),
        (&["a.csv", "nowhere.csv"], 1, "nowhere.csv"),
        (&["a.csv", "empty.csv"], 1, "the first line must name the columns"),
        (&["a.csv", "no.parquet"], 1, "cannot read no.parquet as Parquet"),
        (
            &["a.csv", "a.csv", "--target", "fraud"],
            64,
            "a.csv has no column `fraud`; it has id, time",
        ),
        (
            &["a.csv", "a.csv", "--target", "channel"],
            64,
            "`--target channel` holds text",
        ),
        (
            &["odd.csv", "odd.csv", "--target", "is_fraud"],
            64,
            "holds 7 in odd.csv; expected 0, 1",
        ),
        (
            &["a.csv", "a.csv", "--feature", "time"],
            64,
            "there is no column to compare",
        ),
        (
            &["a.csv", "a.csv", "--type", "id=text"],
            64,
            "COLUMN=number or COLUMN=category",
        ),
        (
            &["a.csv", "a.csv", "--operating-threshold", "2"],
            64,
            "a number from 0 to 1",
        ),
    ];
    for (arguments, expected, part) in cases {
        let output = vigie(path).arg("report").args(arguments).output().unwrap();
        let (code, out, err) = told(&output);
        assert_eq!(code, expected, "{arguments:?}: {out}{err}");
        assert!(err.contains(part), "{part:?} is missing in {err}");
    }
}

#[test]
fn names_of_anything_are_harmless_in_text_and_page() {
    let folder = tempfile::tempdir().unwrap();
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let header: Vec<String> = NAMES.iter().map(|name| quoted(name)).collect();
    let mut text = header.join(",") + "\n";
    for row in 0..600_u32 {
        let cells: Vec<String> = NAMES
            .iter()
            .enumerate()
            .map(|(at, name)| {
                if draw(row, at as u32) < 0.5 {
                    quoted(name)
                } else {
                    "plain".to_owned()
                }
            })
            .collect();
        text.push_str(&(cells.join(",") + "\n"));
    }
    std::fs::write(folder.path().join("a.csv"), &text).unwrap();
    std::fs::write(folder.path().join("b.csv"), text.replace("plain", "other")).unwrap();
    let output = vigie(folder.path())
        .args(["report", "a.csv", "b.csv", "--html", "page.html"])
        .output()
        .unwrap();
    let (code, out, err) = told(&output);
    assert_eq!(code, 2, "{err}");
    assert!(!out.contains('\u{1b}') && !out.contains('\u{202e}'), "{out:?}");
    let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    let lower = page.to_lowercase();
    for part in ["<script", "<img", "<svg/", " href=", " src=\"", "\u{202e}"] {
        assert!(!lower.contains(part), "{part} is in the page");
    }
}

/// What readers of the document rely on. A field is added, and never changed or taken away, without a new name of the schema.
#[test]
fn the_schemas_of_the_documents_are_as_reviewed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["report", "selftest"] {
        let output = vigie(folder.path()).args(["schema", name]).output().unwrap();
        let (code, out, err) = told(&output);
        assert_eq!(code, 0, "{err}");
        let golden =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.v1.schema.json"));
        let reviewed = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(
            out.trim_end(),
            reviewed.trim_end(),
            "`vigie schema {name}` is no longer {}; when only fields were added, write it there",
            golden.display()
        );
    }
}

#[test]
fn a_page_of_33_columns_is_small() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..33).map(|n| format!("column_{n}")).collect();
    let file = |shift: f64| {
        let mut text = names.join(",") + "\n";
        for row in 0..2_000_u32 {
            let cells: Vec<String> = (0..33)
                .map(|column| format!("{:.5}", draw(row, column) + draw(row, column + 50) + shift))
                .collect();
            text.push_str(&(cells.join(",") + "\n"));
        }
        text
    };
    std::fs::write(folder.path().join("a.csv"), file(0.0)).unwrap();
    std::fs::write(folder.path().join("b.csv"), file(0.7)).unwrap();
    let output = vigie(folder.path())
        .args(["report", "a.csv", "b.csv", "--html", "page.html"])
        .output()
        .unwrap();
    assert_eq!(told(&output).0, 2);
    let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 33);
    assert!(page.len() < 300_000, "{} bytes", page.len());
}
