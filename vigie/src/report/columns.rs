//! Which columns of two tables are compared, and as what.

use transactions::table::{As, Table, TableColumn, TableKind};

use super::document::{Breakage, LeftOut};
use crate::output::Usage;

/// What the user said of columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The column that says what was fraud.
    pub target: Option<String>,
    /// The column with the model's score.
    pub score: Option<String>,
    /// Compare these only; empty for all.
    pub features: Vec<String>,
    /// Do not compare these.
    pub ignore: Vec<String>,
    /// Columns whose kind is not what it seems.
    pub types: Vec<(String, As)>,
    /// Columns whose levels are segments of rows.
    pub segments: Vec<String>,
}

/// A column that both tables have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Its position in each table: reference, current.
    pub at: [usize; 2],
    /// As what it is compared.
    pub read_as: As,
    /// Whether it holds whole numbers, which may be no more than a row's number.
    pub whole: bool,
    /// Whether the user named it: then it is compared, whatever it looks like.
    pub named: bool,
}

/// What is read of both tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is compared; the score is one of them.
    pub features: Vec<Feature>,
    /// Positions of the label.
    pub target: Option<[usize; 2]>,
    /// Positions and name of the score.
    pub score: Option<(String, [usize; 2])>,
    /// Names and positions of the columns whose levels are segments.
    pub segments: Vec<(String, [usize; 2])>,
    /// What is not compared, and why.
    pub left_out: Vec<LeftOut>,
    /// What was to be compared and cannot be.
    pub breakage: Vec<Breakage>,
}

impl Plan {
    /// Matches two tables.
    ///
    /// # Errors
    /// [`Usage`] for columns that the user names and the reference does not have.
    pub fn of(reference: &Table, current: &Table, choice: &Choice) -> Result<Self, Usage> {
        for name in choice
            .features
            .iter()
            .chain(&choice.ignore)
            .chain(&choice.target)
            .chain(&choice.score)
            .chain(&choice.segments)
            .chain(choice.types.iter().map(|(name, _)| name))
        {
            if reference.position(name).is_none() {
                return Err(missing(name, reference));
            }
        }
        let mut plan = Self {
            target: both(reference, current, choice.target.as_deref(), "--target")?,
            ..Self::default()
        };
        if let Some(name) = &choice.score {
            plan.score = both(reference, current, Some(name), "--score")?.map(|at| (name.clone(), at));
        }
        for name in &choice.segments {
            let at = segment(reference, current, name)?;
            plan.segments.push((name.clone(), at));
        }
        for (name, read_as) in &choice.types {
            let found = reference.columns().iter().find(|column| column.name == *name);
            if let Some(column) = found.filter(|column| !readable(&column.kind, *read_as)) {
                return Err(Usage(format!(
                    "`--type {name}=…`: it holds {} in {}, which cannot be read so",
                    column.kind.word(),
                    reference.path().display()
                )));
            }
        }
        for (at, column) in reference.columns().iter().enumerate() {
            plan.add(at, column, current, choice);
        }
        for column in current.columns() {
            if reference.position(&column.name).is_none() {
                plan.leave_out(&column.name, "the reference does not have it");
            }
        }
        plan.expect_features()?;
        Ok(plan)
    }

    /// Fails when nothing is left to be compared.
    ///
    /// # Errors
    /// [`Usage`] that says why each column is not.
    pub fn expect_features(&self) -> Result<(), Usage> {
        if !self.features.is_empty() || !self.breakage.is_empty() {
            return Ok(());
        }
        let reasons: Vec<String> = self
            .left_out
            .iter()
            .map(|left| format!("`{}`: {}", left.column, left.reason))
            .collect();
        Err(Usage(format!(
            "there is no column to compare ({})",
            reasons.join("; ")
        )))
    }

    fn leave_out(&mut self, column: &str, reason: &str) {
        self.left_out.push(LeftOut {
            column: column.to_owned(),
            reason: reason.to_owned(),
        });
    }

    fn break_at(&mut self, column: &str, kind: &'static str, detail: String) {
        self.breakage.push(Breakage {
            column: column.to_owned(),
            kind,
            detail,
        });
    }

    fn add(&mut self, at: usize, column: &TableColumn, current: &Table, choice: &Choice) {
        let name = &column.name;
        let is = |named: &Option<String>| named.as_deref() == Some(name.as_str());
        let named = choice.features.contains(name) || is(&choice.score);
        if is(&choice.target) {
            return;
        }
        if choice.ignore.contains(name) {
            return self.leave_out(name, "--ignore");
        }
        if !choice.features.is_empty() && !named {
            return self.leave_out(name, "--feature names others");
        }
        let chosen = choice.types.iter().find(|(known, _)| known == name);
        let named = named || chosen.is_some();
        let read_as = chosen.map(|(_, read_as)| *read_as).or(match &column.kind {
            kind if kind.is_numeric() => Some(As::Numbers),
            TableKind::Text => Some(As::Categories),
            _ => None,
        });
        let Some(read_as) = read_as else {
            let reason = format!("holds values of type {}", column.kind.word());
            return self.leave_out(name, &reason);
        };
        let Some(there) = current.position(name) else {
            return self.break_at(
                name,
                "missing_column",
                "the current file does not have it".to_owned(),
            );
        };
        let found = &current.columns()[there].kind;
        if !readable(found, read_as) {
            let detail = format!("was {} and is {}", column.kind.word(), found.word());
            return self.break_at(name, "type_changed", detail);
        }
        self.features.push(Feature {
            name: name.clone(),
            at: [at, there],
            read_as,
            whole: column.kind == TableKind::Integer && read_as == As::Numbers,
            named,
        });
    }
}

/// Where a column of segments is in both tables.
fn segment(reference: &Table, current: &Table, name: &str) -> Result<[usize; 2], Usage> {
    let find = |table: &Table| {
        let at = table.position(name).ok_or_else(|| missing(name, table))?;
        let kind = &table.columns()[at].kind;
        if readable(kind, As::Categories) {
            return Ok(at);
        }
        Err(Usage(format!(
            "`--segment {name}` holds {} in {}; expected texts or numbers",
            kind.word(),
            table.path().display()
        )))
    };
    Ok([find(reference)?, find(current)?])
}

/// Whether values of this kind can be read so. Numbers have names too, for who says that they are codes.
fn readable(kind: &TableKind, read_as: As) -> bool {
    match read_as {
        As::Numbers => kind.is_numeric(),
        As::Categories => kind.is_numeric() || *kind == TableKind::Text,
    }
}

fn missing(name: &str, table: &Table) -> Usage {
    let names: Vec<&str> = table
        .columns()
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    Usage(format!(
        "{} has no column `{name}`; it has {}",
        table.path().display(),
        names.join(", ")
    ))
}

fn both(
    reference: &Table,
    current: &Table,
    name: Option<&str>,
    option: &str,
) -> Result<Option<[usize; 2]>, Usage> {
    let Some(name) = name else { return Ok(None) };
    let find = |table: &Table| {
        let at = table.position(name).ok_or_else(|| missing(name, table))?;
        let kind = &table.columns()[at].kind;
        if kind.is_numeric() {
            return Ok(at);
        }
        Err(Usage(format!(
            "`{option} {name}` holds {} in {}; expected numbers",
            kind.word(),
            table.path().display()
        )))
    };
    Ok(Some([find(reference)?, find(current)?]))
}
