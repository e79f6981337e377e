//! Reads a model's transactions from where they live: a PostgreSQL table or view, or a Parquet file.
//!
//! * [`definition`] – `[models.*]` of the settings: where the rows are and which column means what.
//! * [`TransactionSource`] – opened against the catalogue, which must have every column in a usable type.
//! * [`Request`] – which rows and columns: a half-open window, as of an instant.
//! * [`Batch`] – rows as columns: time, features, what was known of the label, score.
//! * [`table`] – files without settings, kinds of columns found out.
//! * [`SourceError`] – what went wrong, and whether waiting may help.
//!
//! Everything is bounded by `as_of`: rows before it, and labels known at it. Both kinds of source give equal
//! batches for equal rows.

mod arrow_columns;
mod batch;
mod catalogue;
pub mod definition;
mod error;
mod nearest;
mod parquet_file;
mod postgres;
mod rows;
mod source;
pub mod table;

pub use batch::{Batch, Column, Label};
pub use catalogue::{Feature, FeatureKind};
pub use definition::{ModelDefinition, SourceDefinition};
pub use error::{CatalogueProblem, SourceError};
pub use postgres::quoted;
pub use source::{FeatureChoice, Order, Request, SourceAccess, SourceSettings, TransactionSource, readers};

/// Default settings of this crate, for the services that read transactions.
pub const DEFAULTS: &str = include_str!("../config/default.toml");
