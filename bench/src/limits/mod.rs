//! The small limits: what each single step of a broker can reach on this machine.

pub mod disk;
pub mod memory;
pub mod tcp;
