//! Damage that a scrub finds is described, costs what it hit, and is found again after a restart.

use corelane_protocol::ErrorCode;
use corelane_protocol::response::PartitionState;
use corelane_storage::disk::memory::DiskImage;

use crate::client::{at, fetch_request};
use crate::world::{World, small_config};

/// The first segment of the only topic.
fn first_segment(image: &DiskImage) -> String {
    let files = image.files().into_iter().map(|(path, _)| path);
    let mut segments: Vec<_> = files.filter(|path| path.ends_with(".log")).collect();
    segments.sort();
    segments.swap_remove(0)
}

#[test]
fn damage_is_described_and_a_fetch_of_it_is_an_error_that_says_what_to_do() {
    let mut config = small_config();
    config.log.scrub_bytes_per_second = 1 << 20;
    let mut world = World::with_config(420, 1, config);
    let topic = world.create("t", 1, &[("segment.bytes", "64 KiB")]);
    let client = world.connect(0);
    let value = "x".repeat(3_000);
    for _ in 0..60 {
        world
            .produce_one(client, at(topic, 0), &value)
            .expect("a produce");
    }
    world.pass_ms(2_000);
    let described = world.describe_partitions(client, "t");
    assert_eq!(described[0].damage, Vec::<String>::new());
    let mut segment = String::new();
    let mut world = world.close_and_restart_with(1, |image| {
        segment = first_segment(image);
        image.flip_bit(&segment, 10_000, 3);
    });
    // Nobody has read it, now or after another restart: it is the scrub that finds it.
    for _ in 0..2 {
        let client = world.connect(0);
        world.pass_ms(10_000);
        let described = world.describe_partitions(client, "t").remove(0);
        assert_eq!(described.state, PartitionState::Online);
        let [damage] = &described.damage[..] else {
            panic!("{:?}", described.damage);
        };
        assert!(
            damage.contains(&segment) && damage.contains("is damaged at byte"),
            "{damage}"
        );
        // What is before and behind it is served, and it is never skipped.
        let mut served = 0;
        let mut refused = 0;
        for offset in 0..60 {
            world.send_fetch(client, fetch_request(&[(at(topic, 0), offset)], 0, 1));
            world.settle();
            let reply = world.reply(client);
            match &reply.fetch().entries[0].result {
                Ok(fetched) => {
                    let first = crate::client::records(fetched.batches)[0].0;
                    assert_eq!(first, offset, "nothing is skipped");
                    served += 1;
                }
                Err(error) => {
                    assert_eq!(error.code, ErrorCode::CorruptData);
                    assert!(error.message.contains(&segment), "{error}");
                    assert!(error.to_string().contains("restore them from a copy"));
                    refused += 1;
                }
            }
        }
        assert_eq!((served, refused), (59, 1));
        world = world.close_and_restart(1);
    }
}
