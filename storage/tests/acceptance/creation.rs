//! A crash at each step of making a data directory: it is made in the end, and works.

use corelane_storage::disk::memory::MemoryDisk;
use corelane_storage::testing::Executor;

use crate::support::history::{empty, make};
use crate::support::layout::Layout;
use crate::support::oracle::Oracle;
use crate::support::seeds;
use crate::support::session::{Scene, Start, recovers};

const IMAGES: u64 = 3;

#[test]
fn a_crash_at_each_step_is_repaired() {
    for seed in seeds() {
        let layout = Layout::tiny(2, 1);
        let steps = {
            let executor = Executor::new(seed);
            let disk = MemoryDisk::new(&executor);
            executor.block_on(make(&disk, &layout));
            disk.operations()
        };
        for step in 0..steps {
            let executor = Executor::new(seed);
            let disk = MemoryDisk::new(&executor);
            disk.halt_at(step);
            assert!(executor.try_block_on(make(&disk, &layout)).is_none());
            for image in 0..IMAGES {
                let _scene =
                    Scene(|| eprintln!("seed {seed}, crash before step {step}, image {image}"));
                let executor = Executor::new(seed + 1);
                let disk = MemoryDisk::from_image(&executor, &disk.crash(step * IMAGES + image));
                executor.block_on(make(&disk, &layout));
                let start = Start {
                    image: disk.crash(step),
                    oracle: Oracle::default(),
                    closed: Default::default(),
                };
                recovers(&start, &layout, seed + step);
            }
        }
        eprintln!("seed {seed}: {steps} crash points, {IMAGES} images each");
    }
}

#[test]
fn a_made_directory_stays_as_it_is() {
    let layout = Layout::tiny(2, 1);
    let made = empty(3, &layout);
    let executor = Executor::new(1);
    let disk = MemoryDisk::from_image(&executor, &made.image);
    executor.block_on(make(&disk, &layout));
    assert_eq!(disk.crash(1), made.image);
}
