//! A candidate and held-out transactions become a verdict and a report.
