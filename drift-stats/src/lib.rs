//! The statistics, pure: one detector one file, no I/O, no async.
