//! Drifts that can be planted: what changes, by how much, from which day on.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};

use super::columns::COLUMNS;

/// A change planted into the stream. Days count from 0, the first day; before its day a drift changes nothing.
///
/// Written `kind:key=value,…`, for example `amount-shift:factor=1.6,day=40`.
#[derive(Debug, Clone, PartialEq)]
pub enum PlantedDrift {
    /// All amounts are multiplied, as by a rise of prices. What is fraud stays fraud, so a model that knows
    /// "large means fraud" accuses genuine payments.
    AmountShift {
        /// What amounts are multiplied by, 0.1 to 10.
        factor: f64,
        /// The first day of it.
        day: u32,
    },
    /// A pattern of fraud that no model has seen: leaked cards that for 7 nights make 3 to 6 payments of 1 to 15
    /// between 00:00 and 05:00, at any terminal.
    NewFraud {
        /// Cards that leak a day, 1 to 1,000; 3 if not said.
        cards: u32,
        /// The first day of it.
        day: u32,
    },
    /// Terminals change to a merchant category that did not occur before.
    CategoryChange {
        /// Share of terminals, above 0, up to 1.
        share: f64,
        /// The first day of it.
        day: u32,
    },
    /// Values of a feature are missing.
    MissingColumn {
        /// The feature, one of [`super::Simulation::columns`].
        feature: String,
        /// Share of payments, above 0, up to 1; 1 if not said.
        share: f64,
        /// The first day of it.
        day: u32,
    },
}

const CARDS_IF_NOT_SAID: u32 = 3;
const KINDS: &str = "`amount-shift:factor=1.6,day=40`, `new-fraud:day=40` (optional: cards=3), \
                     `category-change:share=0.4,day=40`, \
                     `missing-column:feature=customer_avg_amount_7d,day=40` (optional: share=0.8)";

impl PlantedDrift {
    /// The first day of it.
    pub fn day(&self) -> u32 {
        match self {
            Self::AmountShift { day, .. }
            | Self::NewFraud { day, .. }
            | Self::CategoryChange { day, .. }
            | Self::MissingColumn { day, .. } => *day,
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// A value out of range; the message names it and the range.
    pub fn check(&self) -> anyhow::Result<()> {
        match self {
            Self::AmountShift { factor, .. } => {
                ensure!(
                    (0.1..=10.0).contains(factor),
                    "amount-shift: factor is {factor}, allowed are 0.1 to 10"
                );
            }
            Self::NewFraud { cards, .. } => {
                ensure!(
                    (1..=1_000).contains(cards),
                    "new-fraud: cards is {cards}, allowed are 1 to 1000 a day"
                );
            }
            Self::CategoryChange { share, .. } => check_share("category-change", *share)?,
            Self::MissingColumn { feature, share, .. } => {
                check_share("missing-column", *share)?;
                let known = COLUMNS.iter().any(|(name, _)| name == feature);
                ensure!(
                    known,
                    "missing-column: there is no feature `{feature}`; features are {}",
                    names()
                );
            }
        }
        Ok(())
    }
}

fn check_share(kind: &str, share: f64) -> anyhow::Result<()> {
    ensure!(
        share > 0.0 && share <= 1.0,
        "{kind}: share is {share}, allowed is above 0, up to 1"
    );
    Ok(())
}

fn names() -> String {
    COLUMNS.map(|(name, _)| name).join(", ")
}

impl fmt::Display for PlantedDrift {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AmountShift { factor, day } => write!(formatter, "amount-shift:factor={factor},day={day}"),
            Self::NewFraud { cards, day } => write!(formatter, "new-fraud:cards={cards},day={day}"),
            Self::CategoryChange { share, day } => {
                write!(formatter, "category-change:share={share},day={day}")
            }
            Self::MissingColumn { feature, share, day } => {
                write!(
                    formatter,
                    "missing-column:feature={feature},share={share},day={day}"
                )
            }
        }
    }
}

impl FromStr for PlantedDrift {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut keys = Keys::read(kind.trim(), rest)?;
        let drift = match kind.trim() {
            "amount-shift" => Self::AmountShift {
                factor: keys.needed("factor", "1.6")?,
                day: keys.needed("day", "40")?,
            },
            "new-fraud" => Self::NewFraud {
                cards: keys.optional("cards", "3")?.unwrap_or(CARDS_IF_NOT_SAID),
                day: keys.needed("day", "40")?,
            },
            "category-change" => Self::CategoryChange {
                share: keys.needed("share", "0.4")?,
                day: keys.needed("day", "40")?,
            },
            "missing-column" => Self::MissingColumn {
                feature: keys.needed("feature", "customer_avg_amount_7d")?,
                share: keys.optional("share", "0.8")?.unwrap_or(1.0),
                day: keys.needed("day", "40")?,
            },
            other => bail!("there is no drift `{other}`; write one of {KINDS}"),
        };
        keys.nothing_left()?;
        drift.check()?;
        Ok(drift)
    }
}

/// The `key=value` pairs of one drift.
struct Keys<'a> {
    kind: &'a str,
    values: BTreeMap<&'a str, &'a str>,
    asked: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    fn read(kind: &'a str, text: &'a str) -> anyhow::Result<Self> {
        let mut values = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .with_context(|| format!("{kind}: `{pair}` is not key=value; drifts are written {KINDS}"))?;
            let before = values.insert(key.trim(), value.trim());
            ensure!(before.is_none(), "{kind}: `{}` is said twice", key.trim());
        }
        Ok(Self {
            kind,
            values,
            asked: Vec::new(),
        })
    }

    fn optional<T: FromStr>(&mut self, key: &'static str, example: &str) -> anyhow::Result<Option<T>> {
        self.asked.push(key);
        let Some(value) = self.values.remove(key) else {
            return Ok(None);
        };
        let read = value.parse().ok();
        Ok(Some(read.with_context(|| {
            format!(
                "{}: cannot read {key}=`{value}`; write it like {key}={example}",
                self.kind
            )
        })?))
    }

    fn needed<T: FromStr>(&mut self, key: &'static str, example: &str) -> anyhow::Result<T> {
        let value = self.optional(key, example)?;
        value.with_context(|| format!("{}: `{key}` is missing; add {key}={example}", self.kind))
    }

    fn nothing_left(self) -> anyhow::Result<()> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(key) => bail!(
                "{}: there is no `{key}` here; keys are {}",
                self.kind,
                self.asked.join(", ")
            ),
        }
    }
}
