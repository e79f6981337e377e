//! Drifts that can be planted, and how they are written: `KIND:KEY=VALUE,KEY=VALUE`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::columns::COLUMNS;

/// A change of the stream from a day on; day 0 is the first. Days before it stay as they would be without it.
#[derive(Debug, Clone, PartialEq)]
pub enum Drift {
    /// `amount-shift:factor=1.6,day=40` – everybody spends `factor` times as much. The amount above which a
    /// payment is fraud (scenario 1) moves with it.
    AmountShift {
        /// First day.
        day: u32,
        /// What amounts are multiplied by, 0.1 to 10.
        factor: f64,
    },
    /// `fraud-pattern:cards=3,day=40` – a fraud that was never seen before: each night thieves try `cards` stolen
    /// numbers, each with twelve payments of 0.50 to 2.00 within an hour, at terminals all over the country.
    FraudPattern {
        /// First day.
        day: u32,
        /// Cards a night, 1 to 1000.
        cards: u32,
    },
    /// `category-change:share=0.4,day=40` – this share of merchants is moved to a category that did not exist.
    CategoryChange {
        /// First day.
        day: u32,
        /// Share of terminals, 0 to 1.
        share: f64,
    },
    /// `missing-column:column=amount_ratio_30d,share=1,day=40` – this share of a feature's values is missing.
    MissingColumn {
        /// First day.
        day: u32,
        /// The feature.
        column: String,
        /// Share of its values, 0 to 1.
        share: f64,
    },
}

/// A drift that cannot be planted as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDrift {
    /// No such kind.
    #[error(
        "drift `{found}` is unknown; known are `amount-shift`, `fraud-pattern`, `category-change` and \
         `missing-column`, e.g. `amount-shift:factor=1.6,day=40`"
    )]
    Kind {
        /// What was written.
        found: String,
    },
    /// Not `KEY=VALUE`, a key twice, or a key that the kind has not.
    #[error("drift `{kind}`: `{found}` is no setting of it; expected {expected}")]
    Key {
        /// The kind.
        kind: &'static str,
        /// What was written.
        found: String,
        /// What the kind takes.
        expected: &'static str,
    },
    /// A key without which the kind makes no sense.
    #[error("drift `{kind}`: `{key}` is missing; expected {expected}")]
    Missing {
        /// The kind.
        kind: &'static str,
        /// The key.
        key: &'static str,
        /// What the kind takes.
        expected: &'static str,
    },
    /// A value out of range.
    #[error("drift `{kind}`: `{key}` is `{found}`; expected {range}")]
    Value {
        /// The kind.
        kind: &'static str,
        /// The key.
        key: &'static str,
        /// What was written.
        found: String,
        /// What is allowed.
        range: String,
    },
}

const FACTOR: RangeInclusive<f64> = 0.1..=10.0;
const SHARE: RangeInclusive<f64> = 0.0..=1.0;
const CARDS: RangeInclusive<u32> = 1..=1_000;
const DAY: RangeInclusive<u32> = 0..=3_649;

impl Drift {
    /// First day of the change.
    pub const fn day(&self) -> u32 {
        match self {
            Self::AmountShift { day, .. }
            | Self::FraudPattern { day, .. }
            | Self::CategoryChange { day, .. }
            | Self::MissingColumn { day, .. } => *day,
        }
    }

    /// The kind's name.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::AmountShift { .. } => "amount-shift",
            Self::FraudPattern { .. } => "fraud-pattern",
            Self::CategoryChange { .. } => "category-change",
            Self::MissingColumn { .. } => "missing-column",
        }
    }

    /// Checks values that were not parsed.
    ///
    /// # Errors
    /// [`InvalidDrift::Value`], naming the setting and its range.
    pub fn check(&self) -> Result<(), InvalidDrift> {
        // Writing and reading back goes through every check there is.
        self.to_string().parse::<Self>().map(|_| ())
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind())?;
        match self {
            Self::AmountShift { factor, .. } => write!(f, "factor={factor}"),
            Self::FraudPattern { cards, .. } => write!(f, "cards={cards}"),
            Self::CategoryChange { share, .. } => write!(f, "share={share}"),
            Self::MissingColumn { column, share, .. } => write!(f, "column={column},share={share}"),
        }?;
        write!(f, ",day={}", self.day())
    }
}

impl FromStr for Drift {
    type Err = InvalidDrift;

    fn from_str(text: &str) -> Result<Self, InvalidDrift> {
        let (kind, settings) = text.split_once(':').unwrap_or((text, ""));
        let unknown = || InvalidDrift::Kind {
            found: kind.trim().to_owned(),
        };
        let kind = KINDS
            .iter()
            .find(|known| known.name == kind.trim())
            .ok_or_else(unknown)?;
        let settings = Settings::read(kind, settings)?;
        let day = settings.number("day", &DAY)?;
        Ok(match kind.name {
            "amount-shift" => Self::AmountShift {
                day,
                factor: settings.number("factor", &FACTOR)?,
            },
            "fraud-pattern" => Self::FraudPattern {
                day,
                cards: settings.number("cards", &CARDS)?,
            },
            "category-change" => Self::CategoryChange {
                day,
                share: settings.number("share", &SHARE)?,
            },
            _ => Self::MissingColumn {
                day,
                column: settings.feature("column")?,
                share: settings.number("share", &SHARE)?,
            },
        })
    }
}

struct Kind {
    name: &'static str,
    keys: &'static [&'static str],
    expected: &'static str,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "amount-shift",
        keys: &["factor", "day"],
        expected: "`factor` and `day`",
    },
    Kind {
        name: "fraud-pattern",
        keys: &["cards", "day"],
        expected: "`cards` and `day`",
    },
    Kind {
        name: "category-change",
        keys: &["share", "day"],
        expected: "`share` and `day`",
    },
    Kind {
        name: "missing-column",
        keys: &["column", "share", "day"],
        expected: "`column`, `share` and `day`",
    },
];

struct Settings<'a> {
    kind: &'static Kind,
    values: Vec<(&'a str, &'a str)>,
}

impl<'a> Settings<'a> {
    fn read(kind: &'static Kind, text: &'a str) -> Result<Self, InvalidDrift> {
        let mut values: Vec<(&str, &str)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let refuse = || InvalidDrift::Key {
                kind: kind.name,
                found: part.to_owned(),
                expected: kind.expected,
            };
            let (key, value) = part.split_once('=').ok_or_else(refuse)?;
            let (key, value) = (key.trim(), value.trim());
            if !kind.keys.contains(&key) || values.iter().any(|(seen, _)| *seen == key) {
                return Err(refuse());
            }
            values.push((key, value));
        }
        Ok(Self { kind, values })
    }

    fn text(&self, key: &'static str) -> Result<&'a str, InvalidDrift> {
        let found = self
            .values
            .iter()
            .find(|(known, _)| *known == key)
            .map(|(_, value)| *value);
        found.ok_or(InvalidDrift::Missing {
            kind: self.kind.name,
            key,
            expected: self.kind.expected,
        })
    }

    fn number<T: FromStr + PartialOrd + fmt::Display>(
        &self,
        key: &'static str,
        range: &RangeInclusive<T>,
    ) -> Result<T, InvalidDrift> {
        let text = self.text(key)?;
        text.parse()
            .ok()
            .filter(|value| range.contains(value))
            .ok_or_else(|| InvalidDrift::Value {
                kind: self.kind.name,
                key,
                found: text.to_owned(),
                range: format!("a number from {} to {}", range.start(), range.end()),
            })
    }

    fn feature(&self, key: &'static str) -> Result<String, InvalidDrift> {
        let text = self.text(key)?;
        let known = COLUMNS.iter().find(|column| column.name == text);
        known
            .map(|column| column.name.to_owned())
            .ok_or_else(|| InvalidDrift::Value {
                kind: self.kind.name,
                key,
                found: text.to_owned(),
                range: format!("one of {}", COLUMNS.map(|column| column.name).join(", ")),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read_and_written_alike() {
        let written = [
            "amount-shift:factor=1.6,day=40",
            "fraud-pattern:cards=3,day=0",
            "category-change:share=0.4,day=12",
            "missing-column:column=amount_ratio_30d,share=1,day=9",
        ];
        for text in written {
            let drift: Drift = text.parse().unwrap();
            assert_eq!(drift.to_string(), text);
            assert_eq!(drift.check(), Ok(()));
        }
        assert_eq!(
            " amount-shift : day = 3 , factor = 2 ".parse(),
            Ok(Drift::AmountShift { day: 3, factor: 2.0 }),
            "order and blanks do not matter"
        );
    }

    #[test]
    fn mistakes_name_the_setting_and_what_is_allowed() {
        let cases = [
            ("inflation:day=3", "drift `inflation` is unknown"),
            ("amount-shift", "`day` is missing; expected `factor` and `day`"),
            ("amount-shift:day=3", "`factor` is missing"),
            (
                "amount-shift:day=3,factor=20",
                "`factor` is `20`; expected a number from 0.1 to 10",
            ),
            ("amount-shift:day=3,factor=NaN", "`factor` is `NaN`"),
            (
                "amount-shift:day=-1,factor=2",
                "`day` is `-1`; expected a number from 0 to 3649",
            ),
            ("amount-shift:day=3,day=4,factor=2", "`day=4` is no setting of it"),
            (
                "fraud-pattern:day=3,share=0.1",
                "`share=0.1` is no setting of it; expected `cards` and `day`",
            ),
            ("fraud-pattern:day=3,cards", "`cards` is no setting of it"),
            ("category-change:day=3,share=1.1", "expected a number from 0 to 1"),
            (
                "missing-column:day=3,share=1,column=label",
                "`column` is `label`; expected one of tx_amount, ",
            ),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Drift>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(
            Drift::AmountShift {
                day: 1,
                factor: f64::INFINITY
            }
            .check()
            .is_err()
        );
    }
}
