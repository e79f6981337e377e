//! The artefact format: what is scored, what is refused, and that nothing can panic or loop.

mod hostile;
mod load;
mod score;
mod support;
