//! What people get to read, and what the outlets do with real and stubbed servers.

mod decisions;
mod rendering;
mod samples;
