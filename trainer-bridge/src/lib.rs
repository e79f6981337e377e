//! Training runs, on Databricks or locally; registration and promotion.

pub mod training;
