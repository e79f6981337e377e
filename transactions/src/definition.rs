//! `[models.*]` of the settings: where a model's transactions are and which column means what.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use chassis::{Reader, Section};
use schemas::ModelName;

use crate::file::DataFile;

/// A model's transactions, as the settings describe them.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelDefinition {
    /// The model.
    pub model: ModelName,
    /// Where the rows are.
    pub source: SourceDefinition,
    /// Column with the instant of the transaction.
    pub time: String,
    /// Column with the label: true or 1 is fraud, null is not known.
    pub label: String,
    /// Column with the instant at which the label became known.
    pub label_time: Option<String>,
    /// How long after the transaction its label is expected to be known; without `label_time`, when it is known.
    pub label_delay: Duration,
    /// Column with the probability that the serving model gave.
    pub score: Option<String>,
    /// Column that tells transactions apart; makes the order of rows definite.
    pub id: Option<String>,
    /// Columns that the model is trained on, in the order that the model sees.
    pub features: Vec<FeatureDefinition>,
    /// Columns by whose levels it is told where a feature moved, such as a country; not trained on unless they are features too.
    pub segments: Vec<String>,
}

/// A column that the model is trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureDefinition {
    /// Its name.
    pub column: String,
    /// Whether it is watched for drift.
    pub monitored: bool,
    /// Whether numbers in it are names of categories rather than amounts.
    pub categorical: bool,
    /// How much it counts beside others when drift is judged, 0 or more: 1 unless the settings say otherwise.
    pub weight: f64,
}

/// Where rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceDefinition {
    /// A table or view.
    Postgres {
        /// Its schema.
        schema: String,
        /// Its name.
        table: String,
    },
    /// A Parquet or CSV file.
    File(DataFile),
    /// A table or view behind a Databricks SQL warehouse.
    Databricks {
        /// Catalogue, schema and name, or the last two.
        table: Vec<String>,
    },
}

impl std::fmt::Display for SourceDefinition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Postgres { schema, table } => write!(f, "{schema}.{table}"),
            Self::File(DataFile::Parquet(path) | DataFile::Csv(path)) => path.display().fmt(f),
            Self::Databricks { table } => f.write_str(&table.join(".")),
        }
    }
}

const KEYS: [&str; 14] = [
    "source",
    "table",
    "path",
    "time",
    "label",
    "label_time",
    "label_delay",
    "score",
    "id",
    "features",
    "not_monitored",
    "categories",
    "weights",
    "segments",
];
/// Longest wait for labels that can be set.
const LABEL_DELAY_MAX: Duration = Duration::from_hours(366 * 24);
/// Most features of one model: all their metrics must fit into one event.
const FEATURES_MAX: usize = 500;
/// Most columns of segments: the counts of the reference are kept for each of their levels.
const SEGMENTS_MAX: usize = 5;

impl ModelDefinition {
    /// Reads every `[models.NAME]`; mistakes are collected by the reader.
    pub fn read_all(reader: &Reader<'_>) -> Vec<Self> {
        let tables = reader.section("models").tables();
        tables
            .iter()
            .filter_map(|(name, section)| Self::read(name, section))
            .collect()
    }

    fn read(name: &str, section: &Section<'_>) -> Option<Self> {
        section.expect_only(&KEYS);
        let model = match ModelName::new(name) {
            Ok(model) => Some(model),
            Err(error) => {
                section.problem("source", format!("a table named `[models.NAME]` ({error})"));
                None
            }
        };
        let source = read_source(section);
        let time = column(section, "time", "the column with the instant of the transaction");
        let label = column(
            section,
            "label",
            "the column that says whether the transaction was fraud",
        );
        let label_time = optional_column(section, "label_time");
        let label_delay = if section.is_set("label_delay") {
            section.duration("label_delay", Duration::ZERO..=LABEL_DELAY_MAX)
        } else {
            if label_time.is_none() {
                section.problem(
                    "label_delay",
                    "a duration such as `1d`, or a column in `label_time`: when is a label known?",
                );
            }
            Duration::ZERO
        };
        let score = optional_column(section, "score");
        let id = optional_column(section, "id");
        let features = read_features(section);
        let segments = read_columns(section, "segments", 0..=SEGMENTS_MAX);
        let known_later = [
            ("label", Some(&label)),
            ("label_time", label_time.as_ref()),
            ("score", score.as_ref()),
        ];
        for (role, used) in known_later {
            if let Some(used) = used.filter(|used| segments.contains(used)) {
                section.problem(
                    "segments",
                    format!("columns known with the transaction; `{used}` is the `{role}` column"),
                );
            }
            if let Some(used) = used.filter(|used| features.iter().any(|feature| feature.column == **used)) {
                section.problem(
                    "features",
                    format!("columns known when the model scores; `{used}` is the `{role}` column"),
                );
            }
        }
        Some(Self {
            model: model?,
            source: source?,
            time,
            label,
            label_time,
            label_delay,
            score,
            id,
            features,
            segments,
        })
    }

    /// Names of the features that are watched for drift.
    pub fn monitored(&self) -> impl Iterator<Item = &str> {
        self.features
            .iter()
            .filter(|feature| feature.monitored)
            .map(|feature| feature.column.as_str())
    }
}

fn read_source(section: &Section<'_>) -> Option<SourceDefinition> {
    let kind = section.choice(
        "source",
        &[
            ("postgres", "postgres"),
            ("parquet", "parquet"),
            ("csv", "csv"),
            ("databricks", "databricks"),
        ],
    );
    let (own, other) = if kind == "parquet" {
        ("path", "table")
    } else {
        ("table", "path")
    };
    if section.is_set(other) {
        section.problem(other, format!("nothing: a `{kind}` source has a `{own}`"));
    }
    match kind {
        "postgres" => {
            let expected = "a table or view such as `bank.payment`";
            let (schema, table) = section.parsed("table", expected, split_table)?;
            Some(SourceDefinition::Postgres { schema, table })
        }
        "databricks" => {
            let expected = "a table or view such as `main.bank.payment`";
            let table = section.parsed("table", expected, catalogue_parts)?;
            Some(SourceDefinition::Databricks { table })
        }
        _ => {
            let path = section.text("path", "the path of a file");
            let file = if kind == "csv" {
                DataFile::Csv
            } else {
                DataFile::Parquet
            };
            (!path.is_empty()).then(|| SourceDefinition::File(file(path.into())))
        }
    }
}

/// `catalogue.schema.table` or `schema.table` (of the warehouse's own catalogue); they are quoted, so nearly every name will do.
fn catalogue_parts(text: &str) -> Result<Vec<String>, String> {
    let parts: Vec<String> = text.split('.').map(str::to_owned).collect();
    let fits = |part: &String| {
        (1..=255).contains(&part.len())
            && !part
                .chars()
                .any(|c| c.is_control() || c == ' ' || c == '/' || c == '`')
    };
    if (2..=3).contains(&parts.len()) && parts.iter().all(fits) {
        Ok(parts)
    } else {
        Err("two or three names with dots between them, without spaces, slashes and backticks".to_owned())
    }
}

/// `schema.table` or `table` (of schema `public`), each an identifier that needs no quotes.
fn split_table(text: &str) -> Result<(String, String), String> {
    let (schema, table) = text.split_once('.').unwrap_or(("public", text));
    for part in [schema, table] {
        let head = part
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
        let plain = part
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !head || !plain || part.len() > 63 {
            return Err(format!(
                "`{part}` is not made of 1 to 63 lower-case letters, digits and underscores; for another name make a view"
            ));
        }
    }
    Ok((schema.to_owned(), table.to_owned()))
}

/// Column names may be anything that a catalogue can hold; they are matched exactly and always quoted.
fn check_column(text: &str) -> Result<String, String> {
    let fits = (1..=128).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits {
        Ok(text.to_owned())
    } else {
        Err("1 to 128 bytes without control characters".to_owned())
    }
}

fn column(section: &Section<'_>, name: &str, expected: &str) -> String {
    section.parsed(name, expected, check_column).unwrap_or_default()
}

fn optional_column(section: &Section<'_>, name: &str) -> Option<String> {
    section
        .is_set(name)
        .then(|| column(section, name, "the name of a column"))
}

/// A list of so many different columns.
fn read_columns(section: &Section<'_>, name: &str, many: RangeInclusive<usize>) -> Vec<String> {
    let columns = section.list(name);
    if !many.contains(&columns.len()) {
        let (least, most) = (many.start(), many.end());
        section.problem(name, format!("a list of {least} to {most} columns"));
    }
    let mut seen = BTreeSet::new();
    for column in &columns {
        if let Err(problem) = check_column(column) {
            section.problem(name, format!("names of columns: {problem}; got {column:?}"));
        }
        if !seen.insert(column.as_str()) {
            section.problem(name, format!("each column once; `{column}` is there twice"));
        }
    }
    columns
}

fn read_features(section: &Section<'_>) -> Vec<FeatureDefinition> {
    let columns = read_columns(section, "features", 1..=FEATURES_MAX);
    let seen: BTreeSet<&str> = columns.iter().map(String::as_str).collect();
    let subset = |name: &str| -> BTreeSet<String> {
        let list: BTreeSet<String> = section.list(name).into_iter().collect();
        for column in list.iter().filter(|column| !seen.contains(column.as_str())) {
            section.problem(
                name,
                format!("columns that `features` names too; `{column}` is not among them"),
            );
        }
        list
    };
    let (not_monitored, categories) = (subset("not_monitored"), subset("categories"));
    let weights = read_weights(section, &seen);
    columns
        .iter()
        .map(|column| FeatureDefinition {
            monitored: !not_monitored.contains(column),
            categorical: categories.contains(column),
            weight: weights.get(column).copied().unwrap_or(1.0),
            column: column.clone(),
        })
        .collect()
}

/// `["amount=3", "weekday=0"]`.
fn read_weights(section: &Section<'_>, features: &BTreeSet<&str>) -> BTreeMap<String, f64> {
    let expected =
        "weights such as `amount=3`, each of a column of `features` and a number between 0 and 1000";
    let mut weights = BTreeMap::new();
    for text in section.list("weights") {
        let weight = text.rsplit_once('=').and_then(|(column, weight)| {
            let weight: f64 = weight.trim().parse().ok()?;
            let fits = (0.0..=1_000.0).contains(&weight) && features.contains(column.trim());
            fits.then(|| (column.trim().to_owned(), weight))
        });
        match weight {
            Some((column, weight)) if !weights.contains_key(&column) => {
                weights.insert(column, weight);
            }
            Some((column, _)) => {
                section.problem("weights", format!("each column once; `{column}` is there twice"));
            }
            None => section.problem("weights", format!("{expected}; got {text:?}")),
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use chassis::{Settings, Sources};

    use super::*;

    fn read(text: &str) -> Result<Vec<ModelDefinition>, String> {
        let sources = Sources {
            overrides: vec![("test.toml".to_owned(), text.to_owned())],
            ..Sources::default()
        };
        let settings =
            Settings::load(&[crate::DEFAULTS], &[], &sources).map_err(|problems| problems.to_string())?;
        let reader = Reader::new(&settings);
        let found = ModelDefinition::read_all(&reader);
        reader.finish().map_err(|problems| problems.to_string())?;
        Ok(found)
    }

    #[test]
    fn a_full_definition_is_read_as_written() {
        let found = read(
            r#"
            [models.fraud-cards]
            source = "postgres"
            table = "bank.payment"
            time = "tx_time"
            label = "is_fraud"
            label_time = "labelled_at"
            label_delay = "1d"
            score = "score"
            id = "transaction_id"
            features = ["TX_AMOUNT", "merchant", "tx_during_weekend"]
            not_monitored = ["tx_during_weekend"]
            categories = ["merchant"]
            weights = ["TX_AMOUNT=2.5", "merchant = 0"]
            segments = ["country", "merchant"]
            "#,
        )
        .unwrap();
        let [model] = found.as_slice() else {
            panic!("one model")
        };
        assert_eq!(model.model.as_str(), "fraud-cards");
        assert_eq!(model.source.to_string(), "bank.payment");
        assert_eq!(model.label_delay, Duration::from_hours(24));
        assert_eq!(model.monitored().collect::<Vec<_>>(), ["TX_AMOUNT", "merchant"]);
        assert!(model.features[1].categorical && !model.features[0].categorical);
        let weights: Vec<f64> = model.features.iter().map(|feature| feature.weight).collect();
        assert_eq!(weights, [2.5, 0.0, 1.0]);
        assert_eq!(model.segments, ["country", "merchant"]);
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let problems = read(
            r#"
            [models.a]
            source = "postgres"
            table = "Bank.payment; drop table x"
            path = "x.parquet"
            time = "t"
            label = "y"
            scoer = "s"
            features = ["x", "x", "y"]
            not_monitored = ["z"]
            weights = ["x=1", "x=2", "w=1", "y=-1", "y"]
            segments = ["c", "c", "y"]
            [models.b]
            source = "mysql"
            features = []
            segments = ["1", "2", "3", "4", "5", "6"]
            "#,
        )
        .unwrap_err();
        for part in [
            "`models.a.table` is `Bank.payment; drop table x`",
            "`models.a.path`",
            "`models.a.label_delay` is not set",
            "`models.a.scoer`",
            "such as `score`",
            "`x` is there twice",
            "`y` is the `label` column",
            "`z` is not among them",
            "each column once; `x` is there twice",
            "between 0 and 1000; got \"w=1\"",
            "got \"y=-1\"",
            "got \"y\"",
            "each column once; `c` is there twice",
            "columns known with the transaction; `y` is the `label` column",
            "`models.b.source` is `mysql`",
            "a list of 0 to 5 columns",
            "one of `postgres`, `parquet`, `csv`, `databricks`",
            "`models.b.time` is not set",
            "`models.b.label` is not set",
        ] {
            assert!(problems.contains(part), "{part:?} is missing in\n{problems}");
        }
    }

    #[test]
    fn a_table_of_a_warehouse_has_a_schema_and_may_have_a_catalogue() {
        let parts = |text: &str| catalogue_parts(text).map(|parts| parts.len());
        assert_eq!(
            (parts("main.bank.payment"), parts("bank.payment")),
            (Ok(3), Ok(2))
        );
        assert_eq!(parts("Main.fraud-desk.Zahlung_2"), Ok(3));
        for bad in ["payment", "a.b.c.d", "a..b", "a.b c", "a.b`", "", "a.b/c"] {
            assert!(catalogue_parts(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_table_without_schema_is_in_public() {
        assert_eq!(
            split_table("payment"),
            Ok(("public".to_owned(), "payment".to_owned()))
        );
        for bad in ["a.b.c", "", ".", "a.", "1a", "a-b", "Ä", &"x".repeat(64)] {
            assert!(split_table(bad).is_err(), "{bad:?}");
        }
    }
}
