//! What an administrator gives to servers: identities and rights, each no larger than the work needs.
//!
//! * [`nats`] – accounts, users and permissions of nats-server, with a key for each identity.
//! * [`postgres`] – roles of PostgreSQL, and tables that somebody else than the services brings up to date.

pub mod nats;
pub mod postgres;
