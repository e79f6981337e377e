//! Stories over the whole system against real servers.
