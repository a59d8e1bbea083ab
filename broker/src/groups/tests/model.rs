//! Many members that do what they like, as long as they keep to the protocol.
//!
//! The reference knows what members see: who holds what, by the answers that have arrived. A
//! member holds what it was told until it says otherwise or learns that it is no member any more.
//! Answers are sent once their records are durable; they get lost, and requests arrive twice, late
//! and after the end of their sender. At any time the coordinator is thrown away, and another one
//! reads as much of the log as was durable.

mod actor;
mod rest;
mod world;

use super::*;
use world::World;

#[test]
fn members_never_share_a_partition_and_come_to_rest() {
    for seed in 0..24 {
        let mut world = World::new(seed);
        for _ in 0..300 {
            world.step();
        }
        world.come_to_rest();
    }
}
