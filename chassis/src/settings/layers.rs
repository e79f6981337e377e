//! Where values come from, and which one wins.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;

use config::{Config, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::problem::{Problem, Problems};

/// A setting's second name in the environment, kept because people already use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// Environment variable, e.g. `DATA_DRIFT_THRESHOLD`.
    pub name: &'static str,
    /// Setting, e.g. `drift.data_threshold`.
    pub key: &'static str,
}

/// Largest value that is read from a file, in bytes.
const VALUE_BYTES_MAX: u64 = 65_536;
/// Prefix of the general environment form, `VIGIE__SECTION__KEY`.
const ENVIRONMENT_PREFIX: &str = "VIGIE__";
/// Sections whose second level is named by the user, e.g. `models.fraud-cards`.
const OPEN_SECTIONS: [&str; 1] = ["models"];
/// Every section that some service reads. All services share one file: each knows the others' sections by name, so that
/// a name that nobody knows is a slip of the pen.
pub const SECTIONS: [&str; 17] = [
    "artifacts",
    "clock",
    "database",
    "databricks",
    "drift",
    "http",
    "mlflow",
    "models",
    "nats",
    "notify",
    "policy",
    "shutdown",
    "telemetry",
    "training",
    "transactions",
    "validation",
    "warehouse",
];

/// Where to look for settings.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A TOML file; when none is named, `vigie.toml` in the working directory is read if it exists.
    pub file: Option<PathBuf>,
    /// TOML text that overrides the file, e.g. what a demo sets; shown as its label.
    pub overrides: Vec<(String, String)>,
    /// Values of `.env`, by name.
    pub dotenv: BTreeMap<String, String>,
    /// Values of the environment, by name.
    pub environment: BTreeMap<String, String>,
}

impl Sources {
    /// The process's own: `VIGIE_CONFIG` or `vigie.toml`, `.env` and the environment.
    ///
    /// # Errors
    /// [`Problems`] when `.env` exists and cannot be read.
    pub fn of_process(file: Option<PathBuf>) -> Result<Self, Problems> {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let file = file.or_else(|| environment.get("VIGIE_CONFIG").map(PathBuf::from));
        let dotenv = match std::fs::read_to_string(".env") {
            Ok(text) => Self::read_dotenv(".env", &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(unreadable(".env", &error.to_string(), ENTRY)),
        };
        Ok(Self {
            file,
            overrides: Vec::new(),
            dotenv,
            environment,
        })
    }

    /// The file that is read: the one named, else `vigie.toml` in the working directory if it exists.
    pub fn file_in_use(&self) -> Option<PathBuf> {
        self.file
            .clone()
            .or_else(|| Some(PathBuf::from("vigie.toml")).filter(|path| path.exists()))
    }

    /// The values of a file of `KEY=VALUE` lines, shown as `label`.
    ///
    /// # Errors
    /// [`Problems`] that says where the first line is that cannot be read; never what is in it.
    pub fn read_dotenv(label: &str, text: &str) -> Result<BTreeMap<String, String>, Problems> {
        let lines_read = Cell::new(0);
        let reader = LineByLine {
            rest: text.as_bytes(),
            lines_read: &lines_read,
        };
        dotenvy::from_read_iter(reader)
            .collect::<Result<_, _>>()
            .map_err(|error| match error {
                // What could not be read may be a secret: only its place is told.
                dotenvy::Error::LineParse(part, at) => {
                    let line = lines_read
                        .get()
                        .saturating_sub(part.trim_end().matches('\n').count());
                    let part = part.lines().next().unwrap_or_default();
                    let whole = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
                    let begin = whole.find(part).unwrap_or_default();
                    let column = whole.get(..begin + at.min(part.len())).unwrap_or_default();
                    unreadable(label, &place(line, column.chars().count() + 1), ENTRY)
                }
                other => unreadable(label, &other.to_string(), ENTRY),
            })
    }
}

/// Hands out one line at a time, so that the number of lines read is known.
struct LineByLine<'a> {
    rest: &'a [u8],
    lines_read: &'a Cell<usize>,
}

impl Read for LineByLine<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let line = self.rest.split_inclusive(|byte| *byte == b'\n').next();
        let length = line.map_or(0, <[u8]>::len).min(buffer.len());
        let (now, later) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.rest = later;
        if now.ends_with(b"\n") || (length > 0 && later.is_empty()) {
            self.lines_read.set(self.lines_read.get() + 1);
        }
        Ok(length)
    }
}

/// Merged values with their origins, before they are checked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) root: Map<String, Value>,
    /// Keys that some `default.toml` names.
    pub(super) known: BTreeSet<String>,
    /// Mistakes found while merging.
    pub(super) problems: Vec<Problem>,
    /// The settings file, when everybody on this machine may read it.
    open_file: Option<String>,
}

impl Settings {
    /// Merges `defaults` (TOML documents) with the sources. Mistakes of form are kept until
    /// [`super::Reader::finish`], so that they are reported together with those of content.
    ///
    /// # Errors
    /// [`Problems`] when the file cannot be read or is no TOML: then nothing else can be said.
    pub fn load(defaults: &[&str], aliases: &[Alias], sources: &Sources) -> Result<Self, Problems> {
        let mut builder = Config::builder();
        for text in defaults {
            builder = builder.add_source(File::from_str(text, FileFormat::Toml));
        }
        let default_config = builder
            .build_cloned()
            .map_err(|error| unreadable("compiled-in defaults", &error.to_string(), DOCUMENT))?;
        let known = leaf_keys(&root_of(default_config));
        let mut problems = Vec::new();
        let mut origins = BTreeMap::new();
        let mut noted = |layer: Named| {
            for (key, value) in &layer.values {
                let section = key.split('.').next().unwrap_or_default();
                origins
                    .entry(section.to_owned())
                    .or_insert_with(|| origin_of(value));
            }
            layer
        };

        let mut open_file = None;
        if let Some(path) = sources.file_in_use() {
            let shown = path.display().to_string();
            if !path.exists() {
                return Err(unreadable(&shown, "the file does not exist", DOCUMENT));
            }
            let text = std::fs::read_to_string(&path)
                .map_err(|error| unreadable(&shown, &error.to_string(), DOCUMENT))?;
            builder = builder.add_source(noted(Named::from_toml(&shown, &text)?));
            open_file = is_open_to_all(&path).then_some(shown);
        }
        for (label, text) in &sources.overrides {
            builder = builder.add_source(noted(Named::from_toml(label, text)?));
        }
        builder = builder.add_source(noted(Named::from_variables(
            ".env variable",
            &sources.dotenv,
            aliases,
            &known,
            &mut problems,
        )));
        builder = builder.add_source(noted(Named::from_variables(
            "environment variable",
            &sources.environment,
            aliases,
            &known,
            &mut problems,
        )));
        let merged = builder
            .build()
            .map_err(|error| unreadable("settings", &error.to_string(), DOCUMENT))?;
        let mut settings = Self {
            root: root_of(merged),
            known,
            problems,
            open_file,
        };
        settings.check_known(&origins);
        Ok(settings)
    }

    /// The settings file, when everybody on this machine may read it, and the secrets that stand in it, by key; none when there
    /// are none.
    pub fn exposed_secrets(&self) -> Option<(&str, Vec<String>)> {
        let file = self.open_file.as_deref()?;
        let keys: Vec<String> = leaf_keys(&self.root)
            .into_iter()
            .filter(|key| {
                self.value(key)
                    .is_some_and(|value| value.origin() == Some(file) && super::print::is_masked(key, value))
            })
            .collect();
        (!keys.is_empty()).then_some((file, keys))
    }

    /// Reports sections that no service knows, and keys that no default names within the sections of this binary.
    /// `origins` says where each section came first: merged, an empty one has forgotten it.
    fn check_known(&mut self, origins: &BTreeMap<String, String>) {
        let own: BTreeSet<&str> = self
            .known
            .iter()
            .filter_map(|key| key.split('.').next())
            .collect();
        let sections: BTreeSet<String> = SECTIONS
            .iter()
            .chain(&own)
            .map(|name| (*name).to_owned())
            .collect();
        let mut found = Vec::new();
        let mut names: Vec<(&String, &Value)> = self.root.iter().collect();
        names.sort_by_key(|(name, _)| *name);
        for (name, value) in names {
            if !sections.contains(name) {
                found.push(unknown_section(name, value, origins.get(name), &sections));
            }
        }
        for key in leaf_keys(&self.root) {
            let section = key.split('.').next().unwrap_or_default();
            let open = OPEN_SECTIONS.contains(&section);
            if open || !own.contains(section) || self.known.contains(&key) {
                continue;
            }
            let nearest = nearest(&key, &self.known);
            // A secret under a name with a slip of the pen is a secret all the same.
            let meant = nearest.filter(|near| super::print::is_secret(near));
            let meant = meant.unwrap_or(&key);
            found.push(Problem {
                value: self.value(&key).map(|value| super::print::shown(meant, value)),
                source: self.value(&key).map_or_else(|| "settings".to_owned(), origin_of),
                expected: format!(
                    "a known setting{}",
                    nearest.map(|key| format!(" such as `{key}`")).unwrap_or_default()
                ),
                key,
            });
        }
        self.problems.append(&mut found);
    }

    /// The value of a key whose names hold no dots.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.value_at(key.split('.'))
    }

    pub(super) fn value_at<'k>(&self, path: impl IntoIterator<Item = &'k str>) -> Option<&Value> {
        let mut path = path.into_iter();
        let mut value = self.root.get(path.next()?)?;
        for part in path {
            match &value.kind {
                ValueKind::Table(table) => value = table.get(part)?,
                _ => return None,
            }
        }
        Some(value)
    }
}

/// Where a value came from, in words.
pub(super) fn origin_of(value: &Value) -> String {
    value
        .origin()
        .map_or_else(|| "the compiled-in defaults".to_owned(), str::to_owned)
}

fn root_of(config: Config) -> Map<String, Value> {
    config.cache.into_table().unwrap_or_default()
}

/// Whether its mode lets others read it.
fn is_open_to_all(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}

fn leaf_keys(root: &Map<String, Value>) -> BTreeSet<String> {
    fn walk(prefix: &str, table: &Map<String, Value>, keys: &mut BTreeSet<String>) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}.{name}")
            };
            match &value.kind {
                ValueKind::Table(inner) => walk(&key, inner, keys),
                _ => {
                    keys.insert(key);
                }
            }
        }
    }
    let mut keys = BTreeSet::new();
    walk("", root, &mut keys);
    keys
}

/// What a settings file is to be.
const DOCUMENT: &str = "readable TOML";
/// What a line of `.env` is to be.
const ENTRY: &str = "KEY=VALUE, with quotes around a value that holds spaces";

fn unreadable(source: &str, why: &str, expected: &str) -> Problems {
    Problems(vec![Problem {
        key: String::new(),
        value: Some(why.to_owned()),
        expected: expected.to_owned(),
        source: source.to_owned(),
    }])
}

/// Where in a text, both from 1.
fn place(line: usize, column: usize) -> String {
    format!("line {line}, column {column}, cannot be read")
}

fn unknown_section(
    name: &str,
    value: &Value,
    origin: Option<&String>,
    sections: &BTreeSet<String>,
) -> Problem {
    let hint = match nearest(name, sections) {
        Some(near) => format!(" such as `[{near}]`"),
        None => format!(
            ": {}",
            sections
                .iter()
                .map(|name| format!("`[{name}]`"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    Problem {
        key: name.to_owned(),
        value: Some(match &value.kind {
            ValueKind::Table(_) => "a section".to_owned(),
            _ => "a setting outside of any section".to_owned(),
        }),
        expected: format!("a known section{hint}"),
        source: origin.map_or_else(|| "settings".to_owned(), Clone::clone),
    }
}

/// The known key that differs least, if it is close enough to be a slip of the pen.
pub fn nearest<'a>(key: &str, known: impl IntoIterator<Item = &'a String>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (edit_distance(key, candidate), candidate.as_str()))
        .min()
        .filter(|(distance, _)| *distance <= 3.max(key.len() / 4))
        .map(|(_, candidate)| candidate)
}

fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// The text of a small file: a device or a pipe may go on for ever.
fn read_value(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(VALUE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > VALUE_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "more than {VALUE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

/// A layer whose values know where they came from.
#[derive(Debug, Clone)]
struct Named {
    values: Map<String, Value>,
}

impl Source for Named {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }
    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.values.clone())
    }
}

impl Named {
    fn from_toml(label: &str, text: &str) -> Result<Self, Problems> {
        fn convert(label: &String, value: toml::Value) -> Value {
            let kind = match value {
                toml::Value::String(text) => ValueKind::String(text),
                toml::Value::Integer(number) => ValueKind::I64(number),
                toml::Value::Float(number) => ValueKind::Float(number),
                toml::Value::Boolean(flag) => ValueKind::Boolean(flag),
                toml::Value::Datetime(instant) => ValueKind::String(instant.to_string()),
                toml::Value::Array(items) => {
                    ValueKind::Array(items.into_iter().map(|item| convert(label, item)).collect())
                }
                toml::Value::Table(table) => ValueKind::Table(
                    table
                        .into_iter()
                        .map(|(name, value)| (name, convert(label, value)))
                        .collect(),
                ),
            };
            Value::new(Some(label), kind)
        }
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            // The error quotes the line, which may hold a secret: only its place is told.
            let before = error.span().and_then(|span| text.get(..span.start));
            let before = before.unwrap_or_default();
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let line = before.matches('\n').count() + 1;
            unreadable(label, &place(line, column), DOCUMENT)
        })?;
        let label = label.to_owned();
        let values = table
            .into_iter()
            .map(|(name, value)| (name, convert(&label, value)))
            .collect();
        Ok(Self { values })
    }

    fn from_variables(
        what: &str,
        variables: &BTreeMap<String, String>,
        aliases: &[Alias],
        known: &BTreeSet<String>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut values = Map::new();
        let mut set = |key: &str, name: &str, text: &str| {
            let origin = format!("{what} {name}");
            values.insert(
                key.to_owned(),
                Value::new(Some(&origin), ValueKind::String(text.to_owned())),
            );
        };
        let resolve = |key: &str, name: &str, path: &str, problems: &mut Vec<Problem>| match read_value(path)
        {
            Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                problems.push(Problem {
                    key: key.to_owned(),
                    value: Some(path.to_owned()),
                    expected: format!("a readable file ({error})"),
                    source: format!("{what} {name}"),
                });
                None
            }
        };
        // Aliases first: the general form is the more deliberate one and wins.
        for alias in aliases {
            let file_name = format!("{}_FILE", alias.name);
            if let Some(path) = variables.get(&file_name) {
                if let Some(text) = resolve(alias.key, &file_name, path, problems) {
                    set(alias.key, &file_name, &text);
                }
            } else if let Some(text) = variables.get(alias.name).filter(|text| !text.is_empty()) {
                set(alias.key, alias.name, text);
            }
        }
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
                continue;
            };
            let key = rest.to_ascii_lowercase().replace("__", ".");
            match key.strip_suffix("_file").filter(|base| known.contains(*base)) {
                Some(base) if !known.contains(&key) => {
                    if let Some(text) = resolve(base, name, text, problems) {
                        set(base, name, &text);
                    }
                }
                _ => set(&key, name, text),
            }
        }
        Self { values }
    }
}
