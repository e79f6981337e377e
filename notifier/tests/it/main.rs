//! What people get to read, and what the service and its outlets do with real servers.

mod decisions;
mod delivery;
mod rendering;
mod running;
mod samples;
mod settings;
mod silent_webhook;
mod smtp;
