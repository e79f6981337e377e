//! Windows of transactions become profiles, metrics and a verdict.
