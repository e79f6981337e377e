//! What a source has, compared with what the settings name.

use crate::definition::ModelDefinition;
use crate::error::CatalogueProblem;
use crate::nearest::nearest;

/// What a column can serve as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// Whole numbers.
    Integer,
    /// Numbers with fractions.
    Number,
    /// True or false.
    Boolean,
    /// Text, or what reads as text: enumerations, UUIDs.
    Text,
    /// An instant.
    InstantWithZone,
    /// A date and time that is taken as UTC.
    InstantWithoutZone,
    /// Nothing of use here.
    Other,
}

/// A column of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundColumn {
    /// Its name, exactly.
    pub name: String,
    /// What it can serve as.
    pub kind: ColumnType,
    /// Its type in the source's words.
    pub type_name: String,
}

/// How a feature is to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureKind {
    /// Amounts.
    Numeric,
    /// Names of categories.
    Category,
}

/// A feature that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Column, exactly.
    pub name: String,
    /// How it is treated.
    pub kind: FeatureKind,
    /// Whether it is watched for drift.
    pub monitored: bool,
}

/// Columns by purpose; every one exists in a usable type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Instant of the transaction.
    pub time: FoundColumn,
    /// Label.
    pub label: FoundColumn,
    /// When the label became known.
    pub label_time: Option<FoundColumn>,
    /// The serving model's probability.
    pub score: Option<FoundColumn>,
    /// Tells transactions apart.
    pub id: Option<FoundColumn>,
    /// Features in the order of the settings, with their columns; after the model's own come the columns of segments, as categories.
    pub features: Vec<(Feature, FoundColumn)>,
    /// How many of `features` are the model's own.
    pub of_model: usize,
    /// Columns of segments that cannot serve; they are not among `features`.
    pub segment_problems: Vec<CatalogueProblem>,
}

const INSTANT: &[ColumnType] = &[ColumnType::InstantWithZone, ColumnType::InstantWithoutZone];
const NUMBER: &[ColumnType] = &[ColumnType::Integer, ColumnType::Number];
const LABEL: &[ColumnType] = &[ColumnType::Boolean, ColumnType::Integer, ColumnType::Number];
const FEATURE: &[ColumnType] = &[
    ColumnType::Integer,
    ColumnType::Number,
    ColumnType::Boolean,
    ColumnType::Text,
];
const CATEGORY: &[ColumnType] = &[ColumnType::Integer, ColumnType::Boolean, ColumnType::Text];
const ID: &[ColumnType] = &[ColumnType::Integer, ColumnType::Text];

/// Looks for columns among those found, and notes those that are not there or cannot serve.
struct Picker<'a> {
    found: &'a [FoundColumn],
    problems: Vec<CatalogueProblem>,
}

impl Picker<'_> {
    fn pick(
        &mut self,
        setting: &'static str,
        name: &str,
        usable: &[ColumnType],
        expected: &'static str,
    ) -> Option<FoundColumn> {
        let Some(column) = self.found.iter().find(|column| column.name == name) else {
            let nearest = nearest(name, self.found.iter().map(|column| column.name.as_str()));
            self.problems.push(CatalogueProblem::MissingColumn {
                setting,
                column: name.to_owned(),
                nearest,
            });
            return None;
        };
        if !usable.contains(&column.kind) {
            self.problems.push(CatalogueProblem::WrongType {
                setting,
                column: name.to_owned(),
                found: column.type_name.clone(),
                expected,
            });
            return None;
        }
        Some(column.clone())
    }
}

/// Compares the settings with the columns found. Columns of segments explain and decide nothing: what is wrong with them stands beside.
///
/// # Errors
/// Every problem at once.
pub fn resolve(definition: &ModelDefinition, found: &[FoundColumn]) -> Result<Layout, Vec<CatalogueProblem>> {
    let mut columns = Picker {
        found,
        problems: Vec::new(),
    };
    let mut pick =
        |setting, name: &str, usable: &[ColumnType], expected| columns.pick(setting, name, usable, expected);
    let time = pick("time", &definition.time, INSTANT, "a timestamp");
    let label = pick(
        "label",
        &definition.label,
        LABEL,
        "a boolean, or a number that is 0 or 1",
    );
    let label_time = definition
        .label_time
        .as_ref()
        .map(|name| pick("label_time", name, INSTANT, "a timestamp"));
    let score = definition
        .score
        .as_ref()
        .map(|name| pick("score", name, NUMBER, "a number between 0 and 1"));
    let id = definition
        .id
        .as_ref()
        .map(|name| pick("id", name, ID, "a whole number or a text"));
    let mut features = Vec::new();
    for feature in &definition.features {
        let column = if feature.categorical {
            // Numbers with fractions have no one spelling, so they cannot name categories.
            pick(
                "categories",
                &feature.column,
                CATEGORY,
                "a text, a whole number or a boolean",
            )
        } else {
            pick(
                "features",
                &feature.column,
                FEATURE,
                "a number, a boolean or a text",
            )
        };
        features.extend(column.map(|column| {
            let category = feature.categorical || column.kind == ColumnType::Text;
            let kind = if category {
                FeatureKind::Category
            } else {
                FeatureKind::Numeric
            };
            (
                Feature {
                    name: feature.column.clone(),
                    kind,
                    monitored: feature.monitored,
                },
                column,
            )
        }));
    }
    let Picker { problems, .. } = columns;
    let of_model = features.len();
    let mut segments = Picker {
        found,
        problems: Vec::new(),
    };
    for name in &definition.segments {
        let column = segments.pick("segments", name, CATEGORY, "a text, a whole number or a boolean");
        features.extend(column.map(|column| {
            let segment = Feature {
                name: name.clone(),
                kind: FeatureKind::Category,
                monitored: false,
            };
            (segment, column)
        }));
    }
    match (time, label) {
        (Some(time), Some(label)) if problems.is_empty() => Ok(Layout {
            time,
            label,
            label_time: label_time.flatten(),
            score: score.flatten(),
            id: id.flatten(),
            features,
            of_model,
            segment_problems: segments.problems,
        }),
        _ => Err(problems),
    }
}
