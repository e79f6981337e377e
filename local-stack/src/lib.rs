//! Starts a private nats-server and PostgreSQL, and test peers, for the demo, for development and for tests.
