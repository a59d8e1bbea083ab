//! Criterion micro-benchmarks of hot paths live in `benches/`; this library is empty.
