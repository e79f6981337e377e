//! Reads a model's transactions from where they live: a PostgreSQL table or view, or a Parquet file.
