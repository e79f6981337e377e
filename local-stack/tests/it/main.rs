//! Against the real servers.

mod owner;
mod stack;
mod support;
mod test_env;
mod tools;
