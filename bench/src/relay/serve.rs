//! The relay's loop on its thread: receive, check, copy, write, acknowledge.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::mem;
use std::net::{Shutdown, TcpListener, TcpStream};

use super::check::FrameCheck;
use super::log::{Full, Log};
use super::ring::{Event, Piece, Ring};
use super::{Form, MEMORY_BYTES, Served};
use crate::{BenchError, cpu};

/// What a relay is told.
pub(super) struct Settings {
    pub(super) form: Form,
    pub(super) cpu: usize,
    pub(super) file: File,
    pub(super) file_bytes: u64,
}

/// Serves one connection to its end.
pub(super) fn serve(listener: &TcpListener, settings: Settings) -> Result<Served, BenchError> {
    cpu::pin(settings.cpu);
    let accepted = listener.accept();
    let (socket, _) = accepted.map_err(BenchError::io("the relay cannot accept"))?;
    let no_delay = socket.set_nodelay(true);
    no_delay.map_err(BenchError::io("the relay's socket"))?;
    let ring = Ring::new(&socket, &settings.file, MEMORY_BYTES);
    let ring = ring.map_err(BenchError::io("the relay's io_uring"))?;
    let mut connection = Connection {
        log: Log::new(
            MEMORY_BYTES as u64,
            settings.file_bytes,
            settings.form == Form::Recycled,
        ),
        served: Served {
            has_registered_memory: ring.is_registered,
            has_incremental_buffers: ring.is_incremental,
            ..Served::default()
        },
        ring,
        check: FrameCheck::default(),
        pieces: VecDeque::new(),
        is_receiving: false,
        has_ended: false,
        acknowledged: 0,
        sending: None,
        file_bytes: settings.file_bytes,
        socket,
    };
    if let Err(error) = connection.run() {
        // The kernel may still write to the buffers, so they are never freed; the sender has to hear of it.
        let _ = connection.socket.shutdown(Shutdown::Both);
        mem::forget(connection);
        return Err(error);
    }
    connection.served.frames = connection.check.frames();
    connection.served.bytes = connection.log.durable();
    Ok(connection.served)
}

struct Connection {
    ring: Ring,
    log: Log,
    check: FrameCheck,
    served: Served,
    /// What arrived while memory was full.
    pieces: VecDeque<Piece>,
    is_receiving: bool,
    has_ended: bool,
    acknowledged: u64,
    sending: Option<u64>,
    file_bytes: u64,
    /// The ring uses its descriptor.
    socket: TcpStream,
}

impl Connection {
    fn run(&mut self) -> Result<(), BenchError> {
        loop {
            self.take()?;
            self.write()?;
            self.acknowledge()?;
            if self.has_ended && self.pieces.is_empty() && self.acknowledged == self.log.received()
            {
                return Ok(());
            }
            self.receive()?;
            self.ring
                .wait()
                .map_err(BenchError::io("the relay waits"))?;
            while let Some(event) = self.ring.next() {
                self.happened(event)?;
            }
        }
    }

    /// Moves what has arrived to memory, as far as there is room.
    fn take(&mut self) -> Result<(), BenchError> {
        while let Some(mut piece) = self.pieces.pop_front() {
            while piece.len() > 0 {
                let room = self.log.room();
                if room.is_empty() {
                    self.pieces.push_front(piece);
                    return Ok(());
                }
                let bytes = piece.len().min(room.len());
                self.ring.copy(&mut piece, room.start..room.start + bytes);
                self.log.fill(bytes);
            }
            self.ring.release(piece);
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), BenchError> {
        loop {
            let write = self.log.next_write().map_err(|Full| BenchError::FileFull {
                bytes: self.file_bytes,
            })?;
            let Some(write) = write else { return Ok(()) };
            self.served.writes += 1;
            self.served.written_bytes += write.memory.len() as u64;
            self.ring.zero(write.padding);
            let pushed = self.ring.write(write.number, write.memory, write.position);
            pushed.map_err(BenchError::io("the relay writes"))?;
        }
    }

    fn acknowledge(&mut self) -> Result<(), BenchError> {
        let durable = self.log.durable();
        if self.sending.is_some() || durable == self.acknowledged {
            return Ok(());
        }
        self.sending = Some(durable);
        let pushed = self.ring.acknowledge(durable);
        pushed.map_err(BenchError::io("the relay acknowledges"))
    }

    fn receive(&mut self) -> Result<(), BenchError> {
        if self.is_receiving || self.has_ended || !self.pieces.is_empty() {
            return Ok(());
        }
        self.is_receiving = true;
        let pushed = self.ring.receive();
        pushed.map_err(BenchError::io("the relay receives"))
    }

    fn happened(&mut self, event: Event) -> Result<(), BenchError> {
        match event {
            Event::Received(piece) => {
                self.is_receiving = piece.goes_on;
                let checked = self.check.check(self.ring.bytes(&piece));
                checked.map_err(|bad| BenchError::Protocol(bad.to_string()))?;
                self.pieces.push_back(piece);
            }
            Event::ReceiveEnded(result) => {
                self.is_receiving = false;
                match result {
                    Ok(()) => self.has_ended = true,
                    // All buffers are full: it starts again when one has come back.
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                    Err(error) => return Err(BenchError::io("the relay receives")(error)),
                }
            }
            Event::Written(number, result) => {
                result
                    .and_then(|bytes| self.whole(number, bytes))
                    .map_err(BenchError::io("the relay writes"))?;
                self.log.wrote(number);
            }
            Event::Sent(result) => {
                let sent = self.sending.take().expect("one is sent at a time");
                match result {
                    Ok(8) => self.acknowledged = sent,
                    Ok(_) => return Err(BenchError::Protocol("half an acknowledgement".into())),
                    Err(error) => return Err(BenchError::io("the relay acknowledges")(error)),
                }
            }
        }
        Ok(())
    }

    fn whole(&self, number: u64, bytes: usize) -> io::Result<()> {
        if self.log.length(number) == bytes {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }
}
