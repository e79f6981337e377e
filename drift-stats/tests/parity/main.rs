//! An independent implementation agrees: numpy, scipy and scikit-learn on the same inputs.
//!
//! `tests/goldens` holds a few cases; the whole collection is read from the folder that `VIGIE_PARITY_DIR` names, else from
//! `../shared/parity` beside the repository, when it is there.

mod bins;
mod peers;
mod performance;
mod samples;
mod streams;
mod support;
