//! Waiting for a socket, precisely.
#![expect(unsafe_code, reason = "std has no poll and no timer slack")]

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
pub(crate) fn be_punctual() {
    // SAFETY: a call with plain numbers. A refusal costs precision only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64, 0_u64, 0_u64, 0_u64) };
}
