//! Against the real servers.

mod accounts;
mod owner;
mod stack;
mod support;
mod tools;
