//! What every service stands on: bus, inbox and outbox, database, telemetry, settings, health, clock.
