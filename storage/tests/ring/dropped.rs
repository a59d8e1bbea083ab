//! Dropping a future frees nothing that the kernel may still touch, and leaves nothing behind.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::future::Future;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use corelane_storage::memory::AlignedBuf;
use corelane_storage::ring::{Directory, Receiver, Ring, RingFile};

use crate::support::{connection, on_core, socket};

/// A read that is in the kernel until somebody writes to the pipe.
async fn pipe(ring: &Ring, dir: &tempfile::TempDir) -> (RingFile, std::fs::File) {
    let path = dir.path().join("pipe");
    let name = CString::new(path.as_os_str().as_bytes()).expect("no zero in a path");
    // SAFETY: the name is a string that ends in zero and outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let directory = Directory::open(dir.path()).expect("a directory");
    let file = ring
        .open_file(&directory, "pipe", libc::O_RDWR)
        .await
        .expect("a pipe");
    let writer = OpenOptions::new().write(true).open(path).expect("a pipe");
    (file, writer)
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn the_memory_of_a_dropped_read_is_kept_until_the_kernel_has_written_it() {
    on_core(|ring| async move {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, mut writer) = pipe(&ring, &dir).await;
        for round in 1..=50 {
            let mut read = Box::pin(file.read_at(0, AlignedBuf::zeroed(4096), 0));
            assert!(poll_once(read.as_mut()).is_pending());
            if round % 2 == 0 {
                ring.sleep(Duration::from_micros(50)).await;
            }
            drop(read);
            assert_eq!(ring.orphans(), 1);
            // The allocator would hand the same memory out again if it were free.
            let canary = AlignedBuf::copy_of(&[round; 4096]);
            writer.write_all(&[0xEE; 4096]).expect("a pipe");
            while ring.orphans() > 0 {
                ring.sleep(Duration::from_micros(20)).await;
            }
            assert!(canary.iter().all(|byte| *byte == round));
        }
    });
}

#[test]
fn a_read_that_is_in_flight_when_the_ring_closes_is_cancelled() {
    on_core(|ring| async move {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, _writer) = pipe(&ring, &dir).await;
        let mut read = Box::pin(file.read_at(0, AlignedBuf::zeroed(4096), 0));
        assert!(poll_once(read.as_mut()).is_pending());
        let mut dropped = Box::pin(file.read_at(0, AlignedBuf::zeroed(4096), 0));
        assert!(poll_once(dropped.as_mut()).is_pending());
        drop(dropped);
        ring.sleep(Duration::from_millis(1)).await;
        ring.close().await;
        let (result, _) = read.await;
        assert_eq!(
            result.expect_err("cancelled").raw_os_error(),
            Some(libc::ECANCELED)
        );
    });
}

#[test]
fn a_dropped_timer_is_taken_back() {
    on_core(|ring| async move {
        for _ in 0..100 {
            let mut sleep = Box::pin(ring.sleep(Duration::from_secs(3600)));
            assert!(poll_once(sleep.as_mut()).is_pending());
            drop(sleep);
        }
        while ring.orphans() > 0 {
            ring.sleep(Duration::from_millis(1)).await;
        }
    });
}

/// A receiver that is dropped while the kernel receives: what still arrives goes back to the pool, and the
/// connection is not read any further.
#[test]
fn a_dropped_receiver_gives_its_buffers_back() {
    on_core(|ring| async move {
        let pool = ring.buffers().count;
        for round in 0..100 {
            let (mut client, server) = connection();
            let socket = socket(&ring, server);
            let mut receiver = Receiver::new(&socket);
            client.write_all(&[1; 20_000]).expect("connected");
            if round % 3 > 0 {
                drop(receiver.next().await.expect("connected"));
            } else {
                assert!(poll_once(Box::pin(receiver.next()).as_mut()).is_pending());
            }
            client.write_all(&[2; 20_000]).expect("connected");
            if round % 2 == 0 {
                ring.sleep(Duration::from_micros(100)).await;
            }
            drop(receiver);
            while ring.in_flight() > 0 {
                ring.sleep(Duration::from_micros(10)).await;
            }
            assert_eq!(ring.buffers_with_kernel(), pool, "round {round}");
        }
    });
}
