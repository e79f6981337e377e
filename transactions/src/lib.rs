//! Reads a model's transactions from where they live: a table or view in PostgreSQL, a Parquet or CSV file, or a table behind a
//! Databricks SQL warehouse.
//!
//! * [`definition`] – `[models.*]` of the settings: where the rows are and which column means what.
//! * [`TransactionSource`] – opened against the catalogue, which must have every column in a usable type.
//! * [`Request`] – which rows and columns: a half-open window, as of an instant.
//! * [`InPlace`], [`counts`] – rows counted where they lie, for a source that outgrows one machine.
//! * [`Batch`] – rows as columns: time, features, what was known of the label, score.
//! * [`table`] – files without settings, kinds of columns found out.
//! * [`SourceError`] – what went wrong, and whether waiting may help.
//!
//! Everything is bounded by `as_of`: rows before it, and labels known at it. All kinds of source give equal
//! batches, and equal counts, for equal rows.

mod access;
mod arrow_columns;
mod batch;
mod catalogue;
pub mod counts;
pub mod definition;
mod error;
mod file;
mod in_place;
mod nearest;
mod postgres;
mod record;
mod rows;
mod source;
pub mod table;
mod warehouse;

pub use access::{ALIASES, Readers, SourceAccess, SourceSettings};
pub use batch::{Batch, Column, Label};
pub use catalogue::{Feature, FeatureKind};
pub use definition::{ModelDefinition, SourceDefinition};
pub use error::{CatalogueProblem, SourceError};
pub use file::DataFile;
pub use in_place::InPlace;
pub use postgres::quoted;
pub use source::{FeatureChoice, Order, Request, TransactionSource};

/// Default settings of this crate, for the services that read transactions.
pub const DEFAULTS: &str = include_str!("../config/default.toml");
