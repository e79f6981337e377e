//! From values to checked types, collecting every mistake.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use config::{Value, ValueKind};

use super::layers::{Settings, nearest, origin_of};
use super::print::shown;
use super::problem::{Problem, Problems};
use super::secret::Secret;
use crate::slots::Schedule;

/// Reads settings and remembers what is wrong; call [`Reader::finish`] before believing a value.
#[derive(Debug)]
pub struct Reader<'a> {
    settings: &'a Settings,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Reader<'a> {
    /// A reader that already knows the mistakes of form.
    pub fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            problems: RefCell::new(settings.problems.clone()),
        }
    }

    /// A section such as `policy` or `drift.bins`.
    pub fn section(&self, name: &str) -> Section<'_> {
        Section {
            reader: self,
            path: name.split('.').map(str::to_owned).collect(),
        }
    }

    /// Records a mistake that spans keys, e.g. two limits that contradict each other.
    pub fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// All mistakes at once.
    ///
    /// # Errors
    /// [`Problems`] when there is at least one.
    pub fn finish(self) -> Result<(), Problems> {
        let problems = self.problems.into_inner();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Problems(problems))
        }
    }
}

/// One section. Each reading method names the accepted range; on a mistake it returns a placeholder
/// inside that range, which is never used because [`Reader::finish`] fails.
#[derive(Debug, Clone)]
pub struct Section<'a> {
    reader: &'a Reader<'a>,
    /// Names from the root; those given by users may hold dots themselves.
    path: Vec<String>,
}

impl<'a> Section<'a> {
    /// The full key of a setting in this section.
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.path.join("."))
    }

    /// Tables directly below this section, by the user's names, e.g. each `[models.x]`.
    pub fn tables(&self) -> Vec<(String, Section<'a>)> {
        let Some(Value {
            kind: ValueKind::Table(table),
            ..
        }) = self.own_value()
        else {
            return Vec::new();
        };
        let mut names: Vec<&String> = table
            .iter()
            .filter(|(_, value)| matches!(value.kind, ValueKind::Table(_)))
            .map(|(name, _)| name)
            .collect();
        names.sort();
        names
            .into_iter()
            .map(|name| {
                let path = self.path.iter().chain([name]).cloned().collect();
                (
                    name.clone(),
                    Section {
                        reader: self.reader,
                        path,
                    },
                )
            })
            .collect()
    }

    /// Reports every key of this section that is not among `names` (for sections named by the user).
    pub fn expect_only(&self, names: &[&str]) {
        let Some(Value {
            kind: ValueKind::Table(table),
            ..
        }) = self.own_value()
        else {
            return;
        };
        let known: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        for (name, value) in table {
            if !names.contains(&name.as_str()) {
                let hint = nearest(name, &known)
                    .map(|near| format!(" such as `{near}`"))
                    .unwrap_or_default();
                let expected = format!("a known setting{hint} (known: {})", names.join(", "));
                self.problem_with(name, Some(value), expected);
            }
        }
    }

    fn own_value(&self) -> Option<&'a Value> {
        self.reader
            .settings
            .value_at(self.path.iter().map(String::as_str))
    }

    /// Whether the setting has a value other than the empty string.
    pub fn is_set(&self, name: &str) -> bool {
        self.lookup(name).is_some()
    }

    fn lookup(&self, name: &str) -> Option<&'a Value> {
        let ValueKind::Table(table) = &self.own_value()?.kind else {
            return None;
        };
        table.get(name).filter(|value| match &value.kind {
            ValueKind::String(text) => !text.is_empty(),
            ValueKind::Nil => false,
            _ => true,
        })
    }

    fn problem_with(&self, name: &str, value: Option<&Value>, expected: impl Into<String>) {
        let key = self.key(name);
        self.reader.report(Problem {
            value: value.map(|value| shown(&key, value)),
            source: value.map_or_else(|| "any source".to_owned(), origin_of),
            expected: expected.into(),
            key,
        });
    }

    /// Records that a setting's value is wrong, in the caller's words.
    pub fn problem(&self, name: &str, expected: impl Into<String>) {
        self.problem_with(name, self.lookup(name), expected);
    }

    /// A text that must be set.
    pub fn text(&self, name: &str, expected: &str) -> String {
        self.optional_text(name).unwrap_or_else(|| {
            self.problem(name, expected);
            String::new()
        })
    }

    /// A text that may be missing.
    pub fn optional_text(&self, name: &str) -> Option<String> {
        let value = self.lookup(name)?;
        match value.clone().into_string() {
            Ok(text) => Some(text),
            Err(_) => {
                self.problem(name, "a text");
                None
            }
        }
    }

    /// A secret that may be missing.
    pub fn optional_secret(&self, name: &str) -> Option<Secret> {
        self.optional_text(name).map(Secret::new)
    }

    /// A text that `parse` accepts.
    pub fn parsed<T, E: std::fmt::Display>(
        &self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name, expected);
        if text.is_empty() {
            return None;
        }
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(name, format!("{expected} ({error})"));
                None
            }
        }
    }

    /// A duration such as `90s`, `48h` or `14d`, within a range.
    pub fn duration(&self, name: &str, range: RangeInclusive<Duration>) -> Duration {
        let expected = || {
            format!(
                "a duration between {} and {}, e.g. `90s`, `48h` or `14d`",
                humantime::format_duration(*range.start()),
                humantime::format_duration(*range.end())
            )
        };
        let parsed = self
            .lookup(name)
            .and_then(|value| value.clone().into_string().ok())
            .and_then(|text| {
                humantime::parse_duration(text.trim())
                    .ok()
                    .filter(|duration| range.contains(duration))
            });
        parsed.unwrap_or_else(|| {
            self.problem(name, expected());
            *range.start()
        })
    }

    /// A finite number within a range.
    pub fn number(&self, name: &str, range: RangeInclusive<f64>) -> f64 {
        let parsed = self
            .lookup(name)
            .and_then(|value| value.clone().into_float().ok())
            .filter(|number| range.contains(number));
        parsed.unwrap_or_else(|| {
            self.problem(
                name,
                format!("a number between {} and {}", range.start(), range.end()),
            );
            *range.start()
        })
    }

    /// A whole number within a range.
    pub fn integer(&self, name: &str, range: RangeInclusive<u64>) -> u64 {
        let parsed = self.lookup(name).and_then(|value| match &value.kind {
            ValueKind::Float(_) | ValueKind::Boolean(_) => None,
            _ => value.clone().into_uint().ok(),
        });
        parsed.filter(|number| range.contains(number)).unwrap_or_else(|| {
            self.problem(
                name,
                format!("a whole number between {} and {}", range.start(), range.end()),
            );
            *range.start()
        })
    }

    /// `true` or `false`.
    pub fn flag(&self, name: &str) -> bool {
        self.lookup(name)
            .and_then(|value| value.clone().into_bool().ok())
            .unwrap_or_else(|| {
                self.problem(name, "`true` or `false`");
                false
            })
    }

    /// One of several words. `choices` must not be empty.
    pub fn choice<T: Clone>(&self, name: &str, choices: &[(&str, T)]) -> T {
        let text = self
            .lookup(name)
            .and_then(|value| value.clone().into_string().ok())
            .unwrap_or_default();
        match choices.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => value.clone(),
            None => {
                let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
                self.problem(name, format!("one of {}", words.join(", ")));
                choices[0].1.clone()
            }
        }
    }

    /// A list of texts: an array in a file, comma-separated in the environment; may be empty.
    pub fn list(&self, name: &str) -> Vec<String> {
        let Some(value) = self.lookup(name) else {
            return Vec::new();
        };
        let items: Option<Vec<String>> = match &value.kind {
            ValueKind::Array(items) => items
                .iter()
                .map(|item| match &item.kind {
                    ValueKind::String(text) => Some(text.trim().to_owned()),
                    _ => None,
                })
                .collect(),
            ValueKind::String(text) => Some(text.split(',').map(|item| item.trim().to_owned()).collect()),
            _ => None,
        };
        match items {
            Some(items) => items.into_iter().filter(|item| !item.is_empty()).collect(),
            None => {
                self.problem(name, "a list of texts");
                Vec::new()
            }
        }
    }

    /// A cron expression of five fields, UTC, such as `0 2 * * *`.
    pub fn cron(&self, name: &str) -> Schedule {
        self.parsed(
            name,
            "a cron expression of five fields (UTC), e.g. `0 2 * * *`",
            str::parse,
        )
        .unwrap_or_else(Schedule::hourly)
    }

    /// An absolute URL with one of the schemes.
    pub fn url(&self, name: &str, schemes: &[&str]) -> url::Url {
        self.optional_url(name, schemes).unwrap_or_else(|| {
            if !self.is_set(name) {
                self.problem(name, url_expected(schemes));
            }
            placeholder_url()
        })
    }

    /// An absolute URL with one of the schemes, or nothing.
    pub fn optional_url(&self, name: &str, schemes: &[&str]) -> Option<url::Url> {
        let text = self.optional_text(name)?;
        match url::Url::parse(&text) {
            Ok(url) if schemes.contains(&url.scheme()) => Some(url),
            _ => {
                self.problem(name, url_expected(schemes));
                None
            }
        }
    }
}

fn url_expected(schemes: &[&str]) -> String {
    format!(
        "a URL that begins with {}",
        schemes
            .iter()
            .map(|s| format!("`{s}://`"))
            .collect::<Vec<_>>()
            .join(" or ")
    )
}

fn placeholder_url() -> url::Url {
    url::Url::parse("http://127.0.0.1/").unwrap_or_else(|_| unreachable!("a constant URL"))
}
