//! What a kernel or a container does not give: a substitute, or a refusal that names it.

use std::io;
use std::path::Path;

use corelane_broker::config::BrokerConfig;
use corelane_broker::runtime::{Running, StartError, serve, serve_probed};
use corelane_storage::ring::{LEAST_KERNEL, SUBSTITUTED, operations, probe_without};

use crate::support::{Client, batch, config, partition, shut_down, start};

fn serve_without(data_dir: &Path, missing: &[&str]) -> Result<Running, StartError> {
    serve_probed(config(data_dir), || probe_without(missing))
}

#[test]
fn a_kernel_without_an_operation_is_refused_by_its_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let names = operations().expect("the tests run on Linux with io_uring");
    assert!(names.len() > 10);
    for (name, _) in names {
        let refused = serve_without(dir.path(), &[name]).err();
        let text = refused.expect("it cannot do without").to_string();
        assert!(text.contains(&format!("({name})")), "{text}");
        assert!(text.contains(LEAST_KERNEL), "{text}");
    }
    // A refusal leaves the directory as it was.
    shut_down(start(dir.path()));
}

/// Each alone, and all together: every way that a broker uses the kernel is gone.
#[test]
fn a_kernel_without_extras_serves() {
    let mut cases: Vec<Vec<&str>> = SUBSTITUTED.iter().map(|name| vec![*name]).collect();
    cases.push(SUBSTITUTED.to_vec());
    for missing in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let features = probe_without(&missing).expect("none of them is needed");
        assert!(features.fallbacks().len() >= missing.len(), "{missing:?}");
        let mut expected = Vec::new();
        for round in 0..3_u32 {
            let broker = serve_without(dir.path(), &missing).expect("it starts");
            // Through each core, so that some of it is forwarded.
            let addresses = [broker.bootstrap(), broker.cores()[0], broker.cores()[1]];
            let mut clients = addresses.map(Client::connect);
            let topic = match round {
                0 => clients[0].create_topic("records", 2),
                _ => clients[0].topic("records"),
            };
            for number in 0..20_u32 {
                let mut value = vec![round as u8; 5000 * number as usize + 1];
                value.extend(number.to_le_bytes());
                for index in 0..2 {
                    let client = &mut clients[number as usize % 3];
                    let place = partition(&topic, index);
                    client
                        .produce(place, &batch(&[&value]))
                        .expect("acknowledged");
                }
                expected.push(value);
            }
            for index in 0..2 {
                for client in &mut clients {
                    let values = client.read_all(partition(&topic, index));
                    assert!(values == expected, "{missing:?}: partition {index}");
                }
            }
            drop(clients);
            if round == 1 {
                drop(broker);
            } else {
                shut_down(broker);
            }
        }
    }
}

/// A container's seccomp profile, system call by system call.
#[test]
fn a_container_that_forbids_io_uring_is_told_what_to_allow() {
    for call in [
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ] {
        for (errno, word) in [
            (libc::EPERM, "kernel.io_uring_disabled"),
            (libc::ENOSYS, "built without it"),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            let config = config(dir.path());
            let text = std::thread::spawn(move || refusal_with(call, errno, config))
                .join()
                .expect("no panic");
            assert!(text.contains(word), "{text}");
            assert!(text.contains("seccomp"), "{text}");
            assert!(text.contains("io_uring_enter"), "{text}");
        }
    }
}

/// What a start says on a thread that gets `errno` from a system call. The thread must end then.
fn refusal_with(call: libc::c_long, errno: i32, config: BrokerConfig) -> String {
    forbid(call, errno).expect("Linux lets a thread restrict itself");
    let refused = serve(config).err().expect("io_uring is forbidden");
    refused.to_string()
}

fn forbid(call: libc::c_long, errno: i32) -> io::Result<()> {
    let statement = |code: u32, k: u32, jump_unless: u8| libc::sock_filter {
        code: u16::try_from(code).expect("codes have 16 bits"),
        jt: 0,
        jf: jump_unless,
        k,
    };
    let number = u32::try_from(call).expect("system calls have small numbers");
    let refusal = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).expect("positive");
    let mut filter = [
        // The number of the system call is the first field.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 1),
        statement(libc::BPF_RET | libc::BPF_K, refusal, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: takes plain numbers.
    let no_privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if no_privileges != 0 {
        return Err(io::Error::last_os_error());
    }
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the program and its filter outlive the call, which copies them.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
