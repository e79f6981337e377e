//! What went wrong with a source, and whether waiting may help.

/// A source could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The world may recover: server down, connection lost, file not there.
    #[error("source `{source_name}` cannot be reached: {cause}")]
    Unreachable {
        /// Table or file.
        source_name: String,
        /// The cause, one line.
        cause: String,
    },
    /// The source understood the question and does not answer it: no right to ask, or something that it cannot do. Only a person can help.
    #[error("source `{source_name}` refuses: {cause}")]
    Refused {
        /// Table or file.
        source_name: String,
        /// The cause, one line.
        cause: String,
    },
    /// The query took longer than `transactions.statement_timeout`.
    #[error("source `{source_name}` did not answer within `transactions.statement_timeout`")]
    TooSlow {
        /// Table or file.
        source_name: String,
    },
    /// The catalogue lacks what the settings name. Only a person can help.
    #[error("source `{source_name}` does not fit the settings: {}", list(.problems))]
    Catalogue {
        /// Table or file.
        source_name: String,
        /// Every problem found; never empty.
        problems: Vec<CatalogueProblem>,
    },
    /// A value cannot mean what its column means.
    #[error("source `{source_name}`, column `{column}`: {detail}")]
    BadValue {
        /// Table or file.
        source_name: String,
        /// The column.
        column: String,
        /// What was found and what is allowed.
        detail: String,
    },
    /// The bytes of the file or of the answer break their format.
    #[error("source `{source_name}` cannot be decoded: {cause}")]
    Corrupt {
        /// Table or file.
        source_name: String,
        /// The cause, one line.
        cause: String,
    },
}

impl SourceError {
    /// Whether the same question may be answered later without anyone changing settings or data.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TooSlow { .. } => true,
            Self::Refused { .. } | Self::Catalogue { .. } | Self::BadValue { .. } | Self::Corrupt { .. } => {
                false
            }
        }
    }

    /// Stable word for events and tables, e.g. `column_missing`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "source_unreachable",
            Self::Refused { .. } => "source_refused",
            Self::TooSlow { .. } => "source_too_slow",
            Self::Catalogue { problems, .. } => {
                problems.first().map_or("source_misfit", CatalogueProblem::word)
            }
            Self::BadValue { .. } => "bad_value",
            Self::Corrupt { .. } => "source_corrupt",
        }
    }
}

/// A scan of a table did not end well.
#[derive(Debug)]
pub enum ScanError {
    /// What the settings name is not there any more: look at the catalogue again.
    Changed(String),
    /// Anything else.
    Source(SourceError),
}

impl From<SourceError> for ScanError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl ScanError {
    /// The error, where nobody looks at the catalogue again.
    pub fn into_source(self, source_name: &str) -> SourceError {
        match self {
            Self::Source(error) => error,
            Self::Changed(cause) => SourceError::Unreachable {
                source_name: source_name.to_owned(),
                cause,
            },
        }
    }
}

/// One way in which a source does not fit the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogueProblem {
    /// There is no such table or view.
    MissingTable {
        /// As written in the settings.
        table: String,
        /// A table of a similar name.
        nearest: Option<String>,
    },
    /// There is no such column.
    MissingColumn {
        /// Setting that names it, e.g. `features`.
        setting: &'static str,
        /// As written in the settings.
        column: String,
        /// A column of a similar name.
        nearest: Option<String>,
    },
    /// The column's type cannot serve its purpose.
    WrongType {
        /// Setting that names it.
        setting: &'static str,
        /// The column.
        column: String,
        /// Its type, in the source's words.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// The role may not read the table or the column.
    NoPermission {
        /// Table, or table and column.
        what: String,
        /// The role that was refused.
        role: String,
    },
}

impl CatalogueProblem {
    /// Stable word for events and tables.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::MissingTable { .. } => "table_missing",
            Self::MissingColumn { .. } => "column_missing",
            Self::WrongType { .. } => "column_type_wrong",
            Self::NoPermission { .. } => "no_permission",
        }
    }
}

impl std::fmt::Display for CatalogueProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hint = |f: &mut std::fmt::Formatter<'_>, nearest: &Option<String>| match nearest {
            Some(name) => write!(f, ", did you mean `{name}`?"),
            None => Ok(()),
        };
        match self {
            Self::MissingTable { table, nearest } => {
                write!(f, "there is no table or view `{table}`")?;
                hint(f, nearest)
            }
            Self::MissingColumn {
                setting,
                column,
                nearest,
            } => {
                write!(f, "`{setting}` names the column `{column}`, which does not exist")?;
                hint(f, nearest)
            }
            Self::WrongType {
                setting,
                column,
                found,
                expected,
            } => {
                write!(
                    f,
                    "`{setting}` names the column `{column}` of type {found}; expected {expected}"
                )
            }
            Self::NoPermission { what, role } => {
                write!(f, "role `{role}` may not read {what} (grant select)")
            }
        }
    }
}

fn list(problems: &[CatalogueProblem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
