//! A whole broker on the running kernel, spoken to in raw frames over TCP.

mod admin;
mod changes;
mod connections;
mod forwarding;
mod group_metrics;
mod http;
mod old_kernels;
mod page;
mod restart;
mod start;
mod support;
mod unfit;
