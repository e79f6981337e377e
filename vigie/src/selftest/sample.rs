//! Rows of a file in memory, and windows of them.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use drift_stats::profile::Values;
use rand::Rng as _;
use rand_chacha::ChaCha12Rng;
use transactions::Column;
use transactions::table::{Table, Wanted};

use crate::report::columns::Plan;
use crate::report::document::LeftOut;
use crate::report::row_names::RowNames;

/// Most rows that are kept; of a larger file as many are chosen by chance.
pub const ROWS_MAX: usize = 400_000;

/// One feature of the kept rows.
#[derive(Debug)]
enum Kept {
    Numbers(Vec<f64>),
    Levels(Levels),
}

#[derive(Debug, Default)]
struct Levels {
    codes: Vec<u32>,
    names: Vec<String>,
    known: HashMap<String, u32>,
}

impl Levels {
    fn code_of(&mut self, name: &str) -> u32 {
        if let Some(code) = self.known.get(name) {
            return *code;
        }
        let code = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.known.insert(name.to_owned(), code);
        code
    }
}

/// The kept rows.
#[derive(Debug)]
pub struct Sample {
    names: Vec<String>,
    features: Vec<Kept>,
    /// Distinct levels of each feature, shared by all windows.
    levels: Vec<Arc<[String]>>,
    rows: usize,
    left_out: Vec<LeftOut>,
}

/// Some rows, as columns that may be changed.
#[derive(Debug, Clone)]
pub struct Rows {
    columns: Vec<RowsOf>,
}

/// One feature of some rows.
#[derive(Debug, Clone)]
pub enum RowsOf {
    /// Numbers; NaN is missing.
    Numbers(Vec<f64>),
    /// Categories.
    Levels {
        /// Position in `levels` per row.
        codes: Vec<u32>,
        /// Distinct names.
        levels: Arc<[String]>,
    },
}

impl Rows {
    /// What the statistics take.
    pub fn values(&self) -> Vec<Values<'_>> {
        self.columns
            .iter()
            .map(|column| match column {
                RowsOf::Numbers(numbers) => Values::Numbers(numbers),
                RowsOf::Levels { codes, levels } => Values::Levels { codes, levels },
            })
            .collect()
    }

    /// A feature, to be changed.
    pub fn column(&mut self, feature: usize) -> &mut RowsOf {
        &mut self.columns[feature]
    }
}

impl Sample {
    /// Reads the features of a plan; columns that name rows are left out.
    ///
    /// # Errors
    /// A file that cannot be read, or nothing left to look at.
    pub fn read(table: &Table, mut plan: Plan, draw: &mut ChaCha12Rng) -> anyhow::Result<Self> {
        let wanted: Vec<Wanted> = plan
            .features
            .iter()
            .map(|feature| Wanted {
                at: feature.at[0],
                read_as: feature.read_as,
            })
            .collect();
        let share = ROWS_MAX as f64 / table.rows().max(1) as f64;
        let mut features: Vec<Option<Kept>> = wanted.iter().map(|_| None).collect();
        let mut row_names = RowNames::new(wanted.len());
        let mut rows = 0;
        table.read(&wanted, &mut |columns| {
            row_names.look(columns);
            let len = columns.first().map_or(0, Column::len);
            let kept: Vec<usize> = (0..len)
                .filter(|_| share >= 1.0 || draw.random::<f64>() < share)
                .collect();
            rows += kept.len();
            for (feature, column) in features.iter_mut().zip(columns) {
                keep(feature, column, &kept);
            }
            ControlFlow::Continue(())
        })?;
        let features = features
            .into_iter()
            .map(|kept| kept.unwrap_or(Kept::Numbers(Vec::new())));
        let features: Vec<Kept> = features.collect();
        let distinct: Vec<Option<usize>> = features
            .iter()
            .map(|kept| match kept {
                Kept::Numbers(_) => None,
                Kept::Levels(levels) => Some(levels.names.len()),
            })
            .collect();
        let stays = row_names.leave_out(&mut plan, &distinct, rows as u64);
        plan.expect_features()?;
        let features: Vec<Kept> = features
            .into_iter()
            .zip(stays)
            .filter_map(|(feature, stays)| stays.then_some(feature))
            .collect();
        Ok(Self {
            names: plan.features.into_iter().map(|feature| feature.name).collect(),
            levels: features
                .iter()
                .map(|kept| match kept {
                    Kept::Numbers(_) => Arc::from([]),
                    Kept::Levels(levels) => Arc::from(levels.names.as_slice()),
                })
                .collect(),
            features,
            rows,
            left_out: plan.left_out,
        })
    }

    /// Names of the features.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Rows kept, count.
    pub fn kept(&self) -> usize {
        self.rows
    }

    /// Columns that are not looked at.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// The position of a level.
    pub fn level(&self, feature: usize, name: &str) -> Option<usize> {
        self.levels[feature].iter().position(|level| level == name)
    }

    /// Two halves by chance: rows that make the bins, and rows that windows are drawn from.
    pub fn halves(&self, draw: &mut ChaCha12Rng) -> (Vec<usize>, Vec<usize>) {
        (0..self.rows).partition(|_| draw.random::<bool>())
    }

    /// These rows.
    pub fn rows(&self, rows: &[usize]) -> Rows {
        let columns = self
            .features
            .iter()
            .zip(&self.levels)
            .map(|(feature, names)| match feature {
                Kept::Numbers(numbers) => RowsOf::Numbers(rows.iter().map(|row| numbers[*row]).collect()),
                Kept::Levels(levels) => RowsOf::Levels {
                    codes: rows.iter().map(|row| levels.codes[*row]).collect(),
                    levels: Arc::clone(names),
                },
            });
        Rows {
            columns: columns.collect(),
        }
    }
}

fn keep(feature: &mut Option<Kept>, column: &Column, rows: &[usize]) {
    match column {
        Column::Numeric(numbers) => {
            if let Kept::Numbers(all) = feature.get_or_insert_with(|| Kept::Numbers(Vec::new())) {
                all.extend(rows.iter().map(|row| numbers[*row]));
            }
        }
        Column::Category { codes, levels } => {
            if let Kept::Levels(all) = feature.get_or_insert_with(|| Kept::Levels(Levels::default())) {
                // Each batch has a list of its own.
                let translated: Vec<u32> = levels.iter().map(|level| all.code_of(level)).collect();
                all.codes.extend(rows.iter().map(|row| {
                    let code = translated.get(codes[*row] as usize);
                    code.copied().unwrap_or(Column::MISSING)
                }));
            }
        }
    }
}
