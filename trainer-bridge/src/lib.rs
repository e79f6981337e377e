//! Requests become models: trained on Databricks or here, registered, and promoted once they are validated.
//!
//! * [`decide`] – what happens to a job next (pure); [`job`] – what a job is.
//! * [`handle`] – the shell: events become rows in the transaction of their receipt.
//! * [`work`], [`promote`] – the loops that claim rows, ask outside any transaction, and write what follows.
//! * [`reconcile`] – puts an alias back that a late call has moved.
//! * [`training`] – the training core (pure): logistic regression and forest, chosen on a slice of their own.
//! * [`backend`] – where trainings run: [`backend::local`], [`backend::databricks`].
//! * [`registry`] – where models are registered: [`registry::embedded`], [`registry::mlflow`].
//! * [`artifacts`] – the folder of models, addressed by content; [`source`] – the rows.
//! * [`store`] – the only folder with SQL.

pub mod artifacts;
pub mod backend;
pub mod config;
pub mod decide;
pub mod handle;
pub mod job;
pub mod metrics;
pub mod promote;
pub mod reconcile;
pub mod registry;
mod service;
pub mod source;
pub mod store;
pub mod training;
pub mod work;

pub use handle::KINDS as SUBSCRIPTION;
pub use service::TrainerBridge;
