//! Against the real servers.

mod databricks;
mod owner;
mod slack;
mod stack;
mod support;
mod test_env;
mod tools;
