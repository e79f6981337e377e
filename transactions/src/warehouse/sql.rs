//! The SQL of a Databricks SQL warehouse, and nothing that it would not share with Spark SQL 3.4 and later.
//!
//! Values that stand in a statement are instants and numbers, printed from integers and floats, and names of levels, escaped; names
//! of tables and columns are quoted. Every value that is handed out is a BIGINT, a DOUBLE or a STRING, whatever the table holds, so
//! that no format of the answer depends on the table.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use crate::catalogue::{ColumnType, FeatureKind, FoundColumn};
use crate::counts::Cells;
use crate::source::{Order, Plan};

/// Microseconds of an hour.
const HOUR_MICROS: i64 = 3_600_000_000;
/// Of so many parts of all rows, a sample takes some.
const SAMPLE_PARTS: u64 = 1_000_000;
/// Not a number, which equals itself and is larger than any other in this dialect.
const NAN: &str = "cast('NaN' as double)";

/// An identifier in quotes, whatever it is made of.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text as a literal.
fn text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A finite number as a literal of type DOUBLE, to the last bit.
fn number(value: f64) -> String {
    format!("{value:E}")
}

/// An instant in the type of its column, so that files that hold none of the wanted rows are left out.
fn instant(micros: i64, kind: &ColumnType) -> String {
    if *kind == ColumnType::InstantWithZone {
        return format!("timestamp_micros({micros})");
    }
    // Years 1 to 9999.
    let micros = micros.clamp(-62_135_596_800_000_000, 253_402_300_799_999_999);
    let at = DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default();
    format!("timestamp_ntz '{}'", at.format("%Y-%m-%d %H:%M:%S%.6f"))
}

/// Microseconds since 1970 UTC; a time without zone is taken as UTC, whatever zone the session has.
fn micros(column: &FoundColumn) -> String {
    let name = quoted(&column.name);
    if column.kind == ColumnType::InstantWithZone {
        format!("unix_micros({name})")
    } else {
        format!("timestampdiff(MICROSECOND, timestamp_ntz '1970-01-01 00:00:00', {name})")
    }
}

fn as_number(column: &FoundColumn) -> String {
    let name = quoted(&column.name);
    if column.kind == ColumnType::Boolean {
        format!("case when {name} then 1E0 when not {name} then 0E0 end")
    } else {
        format!("cast({name} as double)")
    }
}

fn as_text(column: &FoundColumn) -> String {
    format!("cast({} as string)", quoted(&column.name))
}

/// What rows are counted by.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// Their full hour since 1970.
    Hour,
    /// The level of the plan's feature `segment`; rows that have another than one of `levels`, or none, are left out.
    Level {
        /// Position among the plan's features; a category.
        segment: usize,
        /// The levels.
        levels: &'a [String],
    },
}

/// The statements of one plan about one table.
#[derive(Debug, Clone, Copy)]
pub struct Statements<'a> {
    /// The table, quoted.
    pub table: &'a str,
    /// What is asked.
    pub plan: &'a Plan,
}

impl Statements<'_> {
    fn feature(&self, at: usize) -> String {
        let (feature, column) = &self.plan.layout.features[at];
        match feature.kind {
            FeatureKind::Numeric => as_number(column),
            FeatureKind::Category => as_text(column),
        }
    }

    /// Which rows.
    fn condition(&self) -> String {
        let plan = self.plan;
        let time = quoted(&plan.layout.time.name);
        let bound = |micros| instant(micros, &plan.layout.time.kind);
        let mut condition = format!(
            "{time} >= {} and {time} < {}",
            bound(plan.span.0),
            bound(plan.span.1)
        );
        if plan.knowledge.since.is_some() {
            // Writing to a String cannot fail.
            let _ = write!(condition, " and {} is not null", quoted(&plan.layout.label.name));
        }
        if let (Some(since), Some(known)) = (plan.knowledge.since, &plan.layout.label_time) {
            let name = quoted(&known.name);
            let (since, until) = (
                instant(since, &known.kind),
                instant(plan.knowledge.as_of, &known.kind),
            );
            let _ = write!(condition, " and {name} > {since} and {name} <= {until}");
        }
        condition
    }

    /// The label as far as it is known; null is unknown.
    fn known_label(&self) -> String {
        let layout = &self.plan.layout;
        let knowledge = self.plan.knowledge;
        let raw = as_number(&layout.label);
        let (column, by) = match &layout.label_time {
            Some(known) => (known, knowledge.as_of),
            None => (&layout.time, knowledge.as_of.saturating_sub(knowledge.delay)),
        };
        let name = quoted(&column.name);
        format!("case when {name} <= {} then {raw} end", instant(by, &column.kind))
    }

    /// The full hour of a row, since 1970.
    fn hour(&self) -> String {
        format!(
            "cast(floor({} / {HOUR_MICROS}) as bigint)",
            micros(&self.plan.layout.time)
        )
    }

    /// No row, but every column.
    pub fn columns(table: &str) -> String {
        format!("select * from {table} limit 0")
    }

    /// Every row, in columns that are named as in the table.
    pub fn rows(&self) -> String {
        let plan = self.plan;
        let layout = &plan.layout;
        let mut columns: Vec<(String, String)> = Vec::new();
        let mut push = |expression: String, name: &str| {
            if columns.iter().all(|(_, known)| *known != quoted(name)) {
                columns.push((expression, quoted(name)));
            }
        };
        push(micros(&layout.time), &layout.time.name);
        if plan.labels {
            push(as_number(&layout.label), &layout.label.name);
            if let Some(known) = &layout.label_time {
                push(micros(known), &known.name);
            }
        }
        if let Some(score) = layout.score.as_ref().filter(|_| plan.scores) {
            push(as_number(score), &score.name);
        }
        for at in &plan.features {
            push(self.feature(*at), &layout.features[*at].1.name);
        }
        let listed: Vec<String> = columns
            .iter()
            .map(|(expression, name)| format!("{expression} as {name}"))
            .collect();
        let mut statement = format!(
            "select {} from {} where {}",
            listed.join(", "),
            self.table,
            self.condition()
        );
        if let Some(share) = plan.sample {
            let _ = write!(statement, " and {}", self.in_sample(share));
        }
        if plan.order == Order::Time {
            let _ = write!(statement, " order by {}", self.order());
        }
        statement
    }

    /// By time, then by what tells rows of one instant apart; missing values last, as elsewhere.
    fn order(&self) -> String {
        let layout = &self.plan.layout;
        let features = || {
            let features = self.plan.features.iter();
            let names = features.map(|at| &layout.features[*at].1.name);
            layout
                .score
                .as_ref()
                .filter(|_| self.plan.scores)
                .map(|score| &score.name)
                .into_iter()
                .chain(names)
                .collect::<Vec<_>>()
        };
        let apart = match &layout.id {
            Some(id) => vec![&id.name],
            None => features(),
        };
        std::iter::once(&layout.time.name)
            .chain(apart)
            .map(|name| format!("{} nulls last", quoted(name)))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// An even part of the rows, always the same one.
    fn in_sample(&self, share: f64) -> String {
        let layout = &self.plan.layout;
        let mut parts = vec![format!("cast({} as string)", micros(&layout.time))];
        match &layout.id {
            Some(id) => parts.push(as_text(id)),
            None => {
                let features = layout.features[..layout.of_model].iter();
                parts.extend(features.map(|(_, column)| as_text(column)));
            }
        }
        let taken = (share.clamp(0.0, 1.0) * SAMPLE_PARTS as f64).ceil() as u64;
        format!(
            "pmod(xxhash64(concat_ws('|', {})), {SAMPLE_PARTS}) < {taken}",
            parts.join(", ")
        )
    }

    /// How many rows: `n`.
    pub fn count(&self) -> String {
        format!(
            "select count(*) as n from {} where {}",
            self.table,
            self.condition()
        )
    }

    /// Microseconds of the oldest and the newest row.
    pub fn extent(table: &str, time: &FoundColumn) -> String {
        let micros = micros(time);
        format!("select min({micros}) as oldest, max({micros}) as newest from {table}")
    }

    /// Rows per part (`p`), feature and cell, in one pass: each row becomes one row per feature (`f`), with its cell (`c`) and its
    /// finite number (`v`). Only the features `which` (positions in the plan's) are counted.
    pub fn cells(&self, which: &[usize], cells: &[Cells], part: Part<'_>) -> String {
        let (part, among) = match part {
            Part::Hour => (self.hour(), String::new()),
            Part::Level { segment, levels } => {
                let level = self.feature(self.plan.features[segment]);
                let among = one_of(&level, levels);
                (level, format!(" and {among}"))
            }
        };
        let values = |at: &usize| format!("{} as x{at}", self.feature(self.plan.features[*at]));
        let structs = |at: &usize| {
            let value = format!("x{at}");
            let (cell, finite) = match &cells[*at] {
                Cells::Numbers { points, edges } => (
                    number_cell(&value, points, edges),
                    format!("case when abs({value}) < cast('Infinity' as double) then {value} end"),
                ),
                Cells::Levels { levels, pooled } => (
                    level_cell(&value, levels, pooled),
                    "cast(null as double)".to_owned(),
                ),
            };
            format!("struct({at}, {cell}, {finite})")
        };
        format!(
            "select p, f, c, count(*) as n, count(v) as vals, sum(v) as s, sum(v * v) as q, min(v) as lo, max(v) as hi \
             from (select {part} as p, {} from {} where {}{among}) as r \
             lateral view inline(array({})) u as f, c, v group by p, f, c",
            which.iter().map(values).collect::<Vec<_>>().join(", "),
            self.table,
            self.condition(),
            which.iter().map(structs).collect::<Vec<_>>().join(", "),
        )
    }

    /// Rows per level (`l`) of each category (`f`), the most frequent `most` of each.
    pub fn levels(&self, most: usize) -> String {
        // A struct takes over the name of a column that stands in it alone, and an array wants structs that are alike.
        let of = |kind| {
            let features = self.plan.features.iter().enumerate();
            features.filter(move |(_, at)| self.plan.layout.features[**at].0.kind == kind)
        };
        let values =
            of(FeatureKind::Category).map(|(at, feature)| format!("{} as x{at}", self.feature(*feature)));
        let structs = of(FeatureKind::Category).map(|(at, _)| format!("struct({at}, coalesce(x{at}))"));
        format!(
            "select f, l, n from (select f, l, n, row_number() over (partition by f order by n desc, l) as place \
             from (select f, l, count(*) as n from (select {} from {} where {}) as r \
             lateral view inline(array({})) u as f, l where l is not null group by f, l) as g) as ranked \
             where place <= {most}",
            values.collect::<Vec<_>>().join(", "),
            self.table,
            self.condition(),
            structs.collect::<Vec<_>>().join(", "),
        )
    }

    /// Known labels (`n`), frauds among them, and one that is no label (`bad`), if there is one.
    pub fn labels(&self) -> String {
        format!(
            "select count(y) as n, count(case when y = 1E0 then 1 end) as frauds, \
             min(case when y <> 0E0 and y <> 1E0 then y end) as bad from (select {} as y from {} where {}) as r",
            self.known_label(),
            self.table,
            self.condition()
        )
    }

    /// Rows per hour, label and score bin (`resolution` of them on 0 to 1), on either side of the threshold.
    pub fn outcomes(&self, threshold: f64, resolution: usize) -> String {
        let score = match self.plan.layout.score.as_ref().filter(|_| self.plan.scores) {
            Some(score) => format!("nullif({}, {NAN})", as_number(score)),
            None => "cast(null as double)".to_owned(),
        };
        format!(
            "select h, y, min(s) as lo, max(s) as hi, count(*) as n \
             from (select {} as h, {} as y, {score} as s from {} where {}) as r \
             group by h, y, floor(s * {}), s >= {}",
            self.hour(),
            self.known_label(),
            self.table,
            self.condition(),
            number(resolution as f64),
            number(threshold),
        )
    }
}

/// Whether a text is one of these, or missing.
fn one_of(value: &str, levels: &[String]) -> String {
    if levels.is_empty() {
        return format!("{value} is null");
    }
    let names: Vec<String> = levels.iter().map(|level| text(level)).collect();
    format!("({value} is null or {value} in ({}))", names.join(", "))
}

/// The number of a value's cell ([`Cells::Numbers`]): points one by one, edges by halving.
fn number_cell(value: &str, points: &[f64], edges: &[f64]) -> String {
    fn interval(value: &str, edges: &[f64], first: usize, into: &mut String) {
        // Writing to a String cannot fail.
        if edges.is_empty() {
            let _ = write!(into, "{first}");
            return;
        }
        let middle = edges.len() / 2;
        let _ = write!(into, "case when {value} < {} then ", number(edges[middle]));
        interval(value, &edges[..middle], first, into);
        into.push_str(" else ");
        interval(value, &edges[middle + 1..], first + middle + 1, into);
        into.push_str(" end");
    }
    let mut cell = format!("case when {value} is null or {value} = {NAN} then 0");
    for (at, point) in points.iter().enumerate() {
        let _ = write!(cell, " when {value} = {} then {}", number(*point), at + 1);
    }
    cell.push_str(" else ");
    interval(value, edges, points.len() + 1, &mut cell);
    cell.push_str(" end");
    cell
}

/// The number of a level's cell ([`Cells::Levels`]).
fn level_cell(value: &str, levels: &[String], pooled: &[String]) -> String {
    let mut cell = format!("case when {value} is null then 0");
    for (at, level) in levels.iter().enumerate() {
        let _ = write!(cell, " when {value} = {} then {}", text(level), at + 3);
    }
    if !pooled.is_empty() {
        let names: Vec<String> = pooled.iter().map(|level| text(level)).collect();
        let _ = write!(cell, " when {value} in ({}) then 2", names.join(", "));
    }
    cell.push_str(" else 1 end");
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_end_their_quotes() {
        assert_eq!(quoted("a`; drop"), "`a``; drop`");
        assert_eq!(text(r"it's \ 'odd'"), r"'it\'s \\ \'odd\''");
    }

    #[test]
    fn numbers_are_doubles_to_the_last_bit() {
        for value in [0.0, -0.0, 0.1, -3.5, 1e300, 5e-324, f64::MAX, 1.0_f64.next_up()] {
            let written = number(value);
            assert!(written.contains('E'), "{written} is taken for a decimal");
            assert_eq!(written.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()));
        }
    }

    #[test]
    fn a_value_is_compared_with_few_edges() {
        let edges: Vec<f64> = (0..100).map(f64::from).collect();
        let cell = number_cell("x", &[7.0], &edges);
        assert_eq!(cell.matches("x < ").count(), 100);
        let deepest = cell
            .split(' ')
            .fold((0_usize, 0_usize), |(depth, deepest), word| {
                match word.trim_end_matches(')') {
                    "case" => (depth + 1, deepest.max(depth + 1)),
                    "end" => (depth - 1, deepest),
                    _ => (depth, deepest),
                }
            })
            .1;
        assert!(deepest <= 8, "{deepest} comparisons in a row");
        assert_eq!(
            number_cell("x", &[], &[]),
            format!("case when x is null or x = {NAN} then 0 else 1 end")
        );
    }

    #[test]
    fn levels_have_cells_in_their_order() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            level_cell("x", &names(&["a", "b"]), &names(&["c"])),
            "case when x is null then 0 when x = 'a' then 3 when x = 'b' then 4 when x in ('c') then 2 else 1 end"
        );
        assert_eq!(level_cell("x", &[], &[]), "case when x is null then 0 else 1 end");
    }
}
