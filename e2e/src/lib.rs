//! Stories over the whole system, against real servers; everything is in `tests/`.
