//! Both kinds of source against real servers and real files.

mod catalogue;
mod equal;
mod faults;
mod support;
mod warehouse;
