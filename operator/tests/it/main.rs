//! The operator against an API server and a broker of its own making: no cluster is needed.

mod crash;
mod deletion;
mod fake;
mod golden;
mod passes;
