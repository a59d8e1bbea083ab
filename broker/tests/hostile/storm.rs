//! Connections that are opened and dropped as fast as that goes, in every way.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use corelane_protocol::frame::RequestFlags;

use crate::support::{Client, batch, partition};
use crate::witness::{End, Scene, Witness};

/// Has the kernel reset the connection when it is closed.
fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the descriptor is open, and the option is a linger of this size.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0);
}

#[test]
fn connections_opened_and_dropped_in_a_storm() {
    let scene = Scene::new();
    // Its records may arrive long after the connections that sent them are gone, so they have a topic of their own.
    let stormed = Client::connect(scene.broker.bootstrap()).create_topic("stormed", 4);
    let mut witness = Witness::new(&scene);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = End(&is_over);
        for attacker in 0..3_u32 {
            let (scene, stormed, is_over) = (&scene, &stormed, &is_over);
            scope.spawn(move || {
                let addresses = [scene.broker.bootstrap(), scene.broker.cores()[1]];
                let mut round = attacker;
                while !is_over.load(Ordering::Relaxed) {
                    round += 1;
                    let Ok(mut stream) = TcpStream::connect(addresses[round as usize % 2]) else {
                        continue;
                    };
                    match round % 4 {
                        0 => {}
                        1 => drop(stream.write_all(&[16, 0, 0])),
                        2 => reset_on_close(&stream),
                        _ => {
                            // A request whose answer nobody waits for.
                            drop(stream);
                            let mut client = Client::connect(addresses[0]);
                            let batch = batch(&[&[1; 100]]);
                            let flags = RequestFlags::default();
                            let place = partition(stormed, round % 4);
                            client.send_produce(place, &batch, flags);
                        }
                    }
                }
            });
        }
        witness.produce(5);
    });
    witness.produce(2);
    witness.finish();
    scene.end();
}
