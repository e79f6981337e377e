//! Training runs, on Databricks or locally; registration and promotion.

pub mod artifacts;
pub mod backend;
pub mod decide;
pub mod http;
pub mod job;
pub mod registry;
pub mod training;
