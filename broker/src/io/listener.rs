//! The sockets that a broker listens on: one bootstrap address shared by all cores, and one of each core.
//!
//! Owns how they are bound. They are bound before anything is recovered, so that a bad address is reported
//! at once and every core's address is known; nobody can connect before [`Listeners::listen`].

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How often an address that is in use is asked for again, and the pause in between: two seconds in all.
const CLAIMS_MAX: u32 = 200;
const CLAIM_PAUSE: Duration = Duration::from_millis(10);

/// The bound sockets of one core.
pub(crate) struct Listeners {
    bootstrap: Socket,
    own: Socket,
    /// The address that all cores share.
    pub(crate) bootstrap_address: SocketAddr,
    /// The address of this core alone.
    pub(crate) own_address: SocketAddr,
}

impl Listeners {
    /// Lets clients connect: the bootstrap listener first, the core's own second.
    pub(crate) fn listen(self) -> io::Result<(TcpListener, TcpListener)> {
        for socket in [&self.own, &self.bootstrap] {
            // So that connections that outlive this broker do not keep the port from the next one.
            socket.set_reuse_address(true)?;
            socket.listen(BACKLOG)?;
        }
        Ok((self.bootstrap.into(), self.own.into()))
    }
}

/// Binds the sockets of `cores` cores. A port of 0 picks free ones; the cores' own ports are always free ones.
pub(crate) fn bind(address: SocketAddr, cores: usize) -> io::Result<Vec<Listeners>> {
    if address.port() != 0 {
        claim_patiently(address)?;
    }
    let first = bound(address, true)?;
    let bootstrap_address = local_address(&first)?;
    let others = (1..cores).map(|_| bound(bootstrap_address, true));
    std::iter::once(Ok(first))
        .chain(others)
        .map(|bootstrap| {
            let own = bound(SocketAddr::new(address.ip(), 0), false)?;
            Ok(Listeners {
                bootstrap: bootstrap?,
                own_address: local_address(&own)?,
                own,
                bootstrap_address,
            })
        })
        .collect()
}

/// Claims the address, and waits a while for the kernel to take it from a broker that was killed: a parent
/// learns of a death before the kernel has taken the dead process's io_uring apart, and until then the
/// ring's pending accepts keep the listener open.
fn claim_patiently(address: SocketAddr) -> io::Result<()> {
    for _ in 0..CLAIMS_MAX {
        match claim(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(CLAIM_PAUSE),
            claimed => return claimed,
        }
    }
    claim(address)
}

/// Makes sure that nobody else has the address. `SO_REUSEPORT` alone would let a second broker take half of the
/// connections of the first.
fn claim(address: SocketAddr) -> io::Result<()> {
    let socket = bound(address, false)?;
    // A bound socket of another process keeps us from binding only if it also listens.
    socket.listen(1)
}

fn bound(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Connections of a broker that has just ended do not keep the port. One that the kernel picks is nobody's, and stays
    // so until we listen: where both allow reuse, it picks also what another process has bound and not listened on yet.
    socket.set_reuse_address(address.port() != 0)?;
    socket.set_reuse_port(is_shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("a TCP socket has an internet address"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn any_port() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn cores_share_one_address_and_have_one_each() {
        let listeners = bind(any_port(), 3).expect("free ports");
        let mut ports: Vec<_> = listeners
            .iter()
            .map(|core| core.own_address.port())
            .collect();
        ports.push(listeners[0].bootstrap_address.port());
        assert!(
            listeners
                .iter()
                .all(|core| core.bootstrap_address == listeners[0].bootstrap_address)
        );
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 4);
    }

    /// As after a restart: the connections of the broker that has ended stay with the kernel for a minute.
    #[test]
    fn a_port_that_was_picked_can_be_asked_for_once_its_broker_has_ended() {
        let mut listeners = bind(any_port(), 1).expect("a free port");
        let address = listeners[0].bootstrap_address;
        let (bootstrap, own) = listeners.remove(0).listen().expect("it is bound");
        let client = TcpStream::connect(address).expect("it listens");
        // Closed first here, so that the kernel keeps it here.
        drop(bootstrap.accept().expect("a connection"));
        drop((bootstrap, own));
        let mut next = bind(address, 1).expect("nobody listens");
        let _listening = next.remove(0).listen().expect("nobody listens");
        drop(client);
    }

    /// The kernel may give a port that allows reuse to two who ask for any, and then the second cannot listen.
    #[test]
    fn a_port_that_was_picked_is_nobody_elses_before_the_broker_listens() {
        let listeners = bind(any_port(), 2).expect("free ports");
        let picked = listeners
            .iter()
            .flat_map(|core| [core.bootstrap_address, core.own_address]);
        for address in picked {
            let refused = bound(address, false).map(drop);
            let refused = refused.expect_err("it is taken").kind();
            assert_eq!(refused, io::ErrorKind::AddrInUse, "{address}");
        }
    }

    #[test]
    fn nobody_connects_before_the_broker_listens() {
        let mut listeners = bind(any_port(), 1).expect("free ports");
        let core = listeners.remove(0);
        let addresses = [core.bootstrap_address, core.own_address];
        for address in addresses {
            assert!(TcpStream::connect(address).is_err());
        }
        let _listening = core.listen().expect("bound");
        for address in addresses {
            assert!(TcpStream::connect(address).is_ok());
        }
    }

    #[test]
    fn a_second_broker_on_the_same_address_is_refused() {
        let mut first = bind(any_port(), 2).expect("free ports");
        let address = first[0].bootstrap_address;
        let _listening = first.remove(0).listen().expect("bound");
        let refused = bind(address, 2).map(drop).expect_err("the port is taken");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
