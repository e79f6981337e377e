//! Triggers and facts become one decision, explained.
