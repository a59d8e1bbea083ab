//! Waiting for a socket, precisely, and making way for those who do.
#![expect(
    unsafe_code,
    reason = "std has no poll, no timer slack and no scheduling classes"
)]

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::ptr;

/// Waits until the socket has bytes, or room if `for_room`, or so many nanoseconds have passed.
pub(crate) fn wait(socket: &TcpStream, for_room: bool, timeout_ns: u64) -> io::Result<()> {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN | if for_room { libc::POLLOUT } else { 0 },
        revents: 0,
    };
    let timeout = libc::timespec {
        tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: one poll entry and a timeout, both alive during the call; no signal mask.
    let result = unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, ptr::null()) };
    match io::Error::last_os_error() {
        error if result < 0 && error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Asks for timers of the calling thread that fire on time rather than up to 50 µs late.
pub fn be_punctual() {
    // SAFETY: a call with plain numbers. A refusal costs precision only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64, 0_u64, 0_u64, 0_u64) };
}

/// Has the calling thread run only while nobody else wants its CPU. Says whether that worked.
pub(crate) fn make_way() -> bool {
    let nothing = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads one parameter, which lives through it; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const nothing) == 0 }
}
