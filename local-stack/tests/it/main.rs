//! Against the real servers.

mod databricks;
mod mlflow;
mod owner;
mod proxy;
mod slack;
mod smtp;
mod stack;
mod support;
mod test_env;
mod tools;
