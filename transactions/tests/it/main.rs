//! Both kinds of source against real servers and real files.

mod catalogue;
mod equal;
mod faults;
mod spark;
mod support;
mod warehouse;
