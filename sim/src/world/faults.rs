//! Faults: what goes wrong in this world, when, and how it is mended.

use corelane_storage::disk::memory::{Fault, OperationKind, Strike};

use super::{Event, World};
use crate::counters::Sometimes;
use crate::profile::{Damage, FaultKind};

impl World {
    /// Draws the next fault and lets it strike.
    pub(super) fn strike(&mut self) {
        if self.is_healed {
            return;
        }
        let pause = self.random.below(2 * self.profile.fault_us + 1);
        self.plan(pause, Event::Fault);
        let kind = self.profile.faults[self.random.index(self.profile.faults.len())];
        let broker = self.random.index(self.machines.len());
        self.note(format_args!("fault: {kind:?}"));
        match kind {
            FaultKind::PowerLoss if self.random.coin() => self.plan_power_loss(broker, true),
            FaultKind::Kill | FaultKind::PowerLoss => {
                if let Some(process) = &self.machines[broker].process {
                    if !process.is_serving() && !process.is_ending() {
                        self.history.reached(Sometimes::KilledAtStart);
                    }
                    let is_power = kind == FaultKind::PowerLoss;
                    self.history.reached(if is_power {
                        Sometimes::PowerLost
                    } else {
                        Sometimes::Killed
                    });
                    self.kill(broker, is_power);
                    if is_power && self.random.coin() {
                        self.plan_power_loss(broker, false);
                    }
                }
            }
            FaultKind::OrderlyRestart => self.stop_in_order(broker),
            FaultKind::DiskError => self.inject_error(broker),
            FaultKind::DiskFull => {
                let disk = &self.machines[broker].disk;
                disk.set_capacity(Some(disk.allocated() + self.random.below(200_000)));
                self.history.keeping.guarding.filled(self.now_us);
                self.history.reached(Sometimes::DiskFilled);
                let us = 500_000 + self.random.below(8_000_000);
                self.plan(us, Event::DiskHasRoom { broker });
            }
            FaultKind::SlowDisk => {
                self.machines[broker].set_slow(true);
                self.history.reached(Sometimes::DiskSlow);
                let us = 100_000 + self.random.below(3_000_000);
                self.plan(us, Event::DiskIsFast { broker });
            }
            FaultKind::DropConnection => self.drop_connection(),
            FaultKind::StallConnection => {
                let numbers = self.network.numbers();
                if !numbers.is_empty() {
                    let number = numbers[self.random.index(numbers.len())];
                    let until = self.now_us + self.random.below(8_000_000);
                    let conn = self.network.get(number).expect("just listed");
                    conn.stalled_until_us = until;
                    self.history.reached(Sometimes::ConnectionStalled);
                }
            }
            FaultKind::ClockJump => {
                let jump = self.random.below(20_000) as i64 - 10_000;
                let jump = if self.random.chance(1, 5) {
                    jump * 1_000
                } else {
                    jump
                };
                self.machines[broker].wall_offset_ms += jump;
                let offset_ms = self.machines[broker].wall_offset_ms;
                self.history.keeping.wall.jumped(self.now_us, offset_ms);
                self.history.reached(Sometimes::ClockJumped);
            }
            FaultKind::SlowCore => {
                let most = if self.random.coin() { 5_000 } else { 700_000 };
                let us = self.now_us + self.random.below(most);
                if let Some(process) = &mut self.machines[broker].process {
                    let core = self.random.index(process.cores.len());
                    process.cores[core].busy_until_us = us;
                    self.history.reached(Sometimes::CoreSlow);
                }
            }
            FaultKind::FlipBit => self.flip_bit(broker),
            FaultKind::CorruptRead => {
                let (byte, bit) = (self.random.index(4096), self.random.below(8) as u8);
                let fault = Fault::corrupt_read(byte, bit).in_path(is_segment);
                let disk = &self.machines[broker].disk;
                // What only the last group tells of is read again once: twice in a row it would look like a torn group.
                if !disk.awaits(Strike::Corrupted) {
                    disk.inject(fault);
                }
            }
            FaultKind::Misdirect => {
                let files: Vec<_> = self.machines[broker]
                    .disk
                    .files()
                    .into_iter()
                    .filter(|(path, len)| is_log(path) && *len >= 4096)
                    .collect();
                if !files.is_empty() {
                    let (path, len) = &files[self.random.index(files.len())];
                    let position = self.random.below(len / 4096) * 4096;
                    let fault = Fault::misdirected(path, position).in_path(is_log);
                    self.machines[broker].disk.inject(fault);
                }
            }
            FaultKind::LoseWrite => {
                self.machines[broker]
                    .disk
                    .inject(Fault::lost().in_path(is_log));
            }
        }
    }

    /// The power will be lost at one of the next writes of a journal: between groups that are in flight together, or
    /// just when the first groups after a recovery are written.
    fn plan_power_loss(&mut self, broker: usize, in_between: bool) {
        let machine = &mut self.machines[broker];
        machine.power_lost_after_writes = Some(1 + self.random.below(4) as u32);
        machine.power_lost_in_between = in_between;
    }

    /// The power is lost at a certain write.
    pub(super) fn power_off(&mut self, broker: usize, life: u32) {
        let process = self.machines[broker].process.as_ref();
        if process.is_none_or(|process| process.life != life) || self.is_healed {
            return;
        }
        let was_in_between = self.machines[broker].power_lost_in_between;
        self.history.reached(if was_in_between {
            Sometimes::PowerLostInBetween
        } else {
            Sometimes::PowerLostAtWrite
        });
        self.kill(broker, true);
        if was_in_between && self.random.coin() {
            self.plan_power_loss(broker, false);
        }
    }

    /// The power goes while the data directory is being made.
    pub(super) fn first_power_off(&mut self, broker: usize) {
        let process = self.machines[broker].process.as_ref();
        if process.is_some_and(|process| !process.is_serving()) {
            self.history.reached(Sometimes::KilledAtStart);
            self.history.reached(Sometimes::PowerLost);
            self.kill(broker, true);
        }
    }

    /// The process of a machine dies, with the machine's memory if the power is lost.
    pub(super) fn kill(&mut self, broker: usize, is_power: bool) {
        self.count_damage();
        self.connections_end(broker);
        self.compaction_ends(broker);
        if is_power {
            self.machines[broker].lose_power();
        } else {
            self.machines[broker].kill();
        }
        self.history.keeping.guarding.crashed(self.now_us);
        self.history.broker_ended(self.now_us);
        self.note(format_args!("broker {broker}: dead"));
        self.choose_cores(broker);
        let pause = 20_000 + self.random.below(1_000_000);
        self.plan_start(broker, pause);
    }

    /// Now and then a restart has another number of cores.
    pub(super) fn choose_cores(&mut self, broker: usize) {
        if self.random.chance(1, 4) {
            let cores = 1 + self.random.below(4) as u16;
            if cores != self.machines[broker].cores {
                self.history.reached(Sometimes::CoresChanged);
            }
            self.machines[broker].cores = cores;
        }
    }

    fn stop_in_order(&mut self, broker: usize) {
        let now = self.machines[broker].now(self.now_us);
        if let Some(process) = &mut self.machines[broker].process
            && process.is_serving()
        {
            for core in &process.cores {
                core.clock.set(now);
            }
            process.begin_shutdown();
            self.history.reached(Sometimes::StoppedInOrder);
            self.note(format_args!("broker {broker}: is stopped"));
            for core in 0..self.machines[broker]
                .process
                .as_ref()
                .map_or(0, |p| p.cores.len())
            {
                let life = self.machines[broker].lives;
                self.input(broker, life, core, crate::process::Input::Tick);
            }
        }
    }

    fn inject_error(&mut self, broker: usize) {
        let kinds = [
            Some(OperationKind::Write),
            Some(OperationKind::Write),
            Some(OperationKind::Flush),
            Some(OperationKind::SyncDir),
            Some(OperationKind::Read),
            Some(OperationKind::Allocate),
            Some(OperationKind::Open),
            None,
        ];
        let mut fault = Fault::io_error();
        if let Some(kind) = kinds[self.random.index(kinds.len())] {
            fault = fault.on(kind);
        }
        let fault = match self.random.below(4) {
            0 => fault.in_path(|path| path.contains("/journal-")),
            1 => fault.in_path(is_segment),
            2 => fault.in_path(|path| path.ends_with("catalogue")),
            _ => fault,
        };
        self.machines[broker].disk.inject(fault);
    }

    /// Something has failed that stays failed until a restart: somebody restarts the broker soon.
    pub(super) fn plan_restart(&mut self, broker: usize) {
        let machine = &mut self.machines[broker];
        if machine.process.is_some() && !machine.wants_restart {
            machine.wants_restart = true;
            let life = machine.lives;
            let us = 100_000 + self.random.below(4_000_000);
            self.plan(us, Event::Restart { broker, life });
        }
    }

    pub(super) fn restart_failed(&mut self, broker: usize, life: u32) {
        let machine = &self.machines[broker];
        let is_same = machine
            .process
            .as_ref()
            .is_some_and(|process| process.life == life);
        if !is_same || !machine.wants_restart {
            return;
        }
        self.history.reached(Sometimes::RestartedForStorage);
        if self.random.coin()
            && machine
                .process
                .as_ref()
                .is_some_and(|process| process.is_serving())
        {
            self.stop_in_order(broker);
        } else {
            self.history.reached(Sometimes::Killed);
            self.kill(broker, false);
        }
    }

    /// A start that failed is tried again.
    pub(super) fn start_failed(&mut self, broker: usize, problem: &str) {
        self.connections_end(broker);
        self.compaction_ends(broker);
        self.machines[broker].kill();
        self.history.keeping.guarding.crashed(self.now_us);
        self.history.broker_ended(self.now_us);
        // A life that began before may have met a full disk, and tells of it only once all its stores are opened.
        if self.machines[broker].is_life_healed && self.profile.damage == Damage::None {
            let problem = format!("nothing is broken any more, but: {problem}");
            self.history.problem(problem);
        }
        let pause = 100_000 + self.random.below(500_000);
        self.plan_start(broker, pause);
    }

    /// A connection breaks: what is on its way is lost from some piece on.
    fn drop_connection(&mut self) {
        let numbers = self.network.numbers();
        if numbers.is_empty() {
            return;
        }
        let number = numbers[self.random.index(numbers.len())];
        let (at_broker, at_client) = (self.random.below(300_000), self.random.below(300_000));
        let conn = self.network.get(number).expect("just listed");
        conn.is_broken = true;
        let (up, down) = (conn.upstream.len(), conn.downstream.len());
        conn.upstream.truncate(self.random.index(up + 1));
        conn.downstream.truncate(self.random.index(down + 1));
        self.history.reached(Sometimes::ConnectionDropped);
        if up > 0 {
            self.history.reached(Sometimes::FrameHalfSent);
        }
        self.note(format_args!("connection {number} breaks"));
        self.plan(at_broker, Event::BrokerSees { conn: number });
        self.plan(at_client, Event::ClientSees { conn: number });
    }

    fn flip_bit(&mut self, broker: usize) {
        let disk = &self.machines[broker].disk;
        let files: Vec<_> = disk
            .files()
            .into_iter()
            .filter(|(path, len)| is_segment(path) && *len > 0)
            .collect();
        let has_later = |path: &str| {
            let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
            let mut others = files.iter().map(|(other, _)| other.as_str());
            others.any(|other| other.starts_with(dir) && other.ends_with(".log") && other > path)
        };
        // What the last group of a journal has in a segment is as good as never written once it is damaged and the power
        // goes: nothing else tells of it. So the segment that is written to is left alone.
        let candidates: Vec<_> = files
            .iter()
            .filter(|(path, _)| !path.ends_with(".log") || has_later(path))
            .collect();
        if candidates.is_empty() {
            return;
        }
        let (path, len) = candidates[self.random.index(candidates.len())];
        let (byte, bit) = (self.random.below(*len), self.random.below(8) as u8);
        let was_in_batch = disk
            .image()
            .read(path)
            .is_some_and(|bytes| is_in_batch(&bytes, byte as usize));
        disk.flip_bit(path, byte, bit);
        if path.ends_with(".log") && was_in_batch {
            self.flipped.insert(path.clone());
        }
        self.history.reached(Sometimes::BitFlipped);
        self.note(format_args!(
            "broker {broker}: bit {bit} of byte {byte} of {path} turns over"
        ));
    }
}

/// Whether a path is a partition's: a segment or its index.
fn is_segment(path: &str) -> bool {
    path.starts_with("store-") && path.matches('/').count() >= 2
}

/// Whether a path is a segment or a journal file.
fn is_log(path: &str) -> bool {
    is_segment(path) || path.contains("/journal-")
}

/// Whether a byte of a segment is part of a batch, as far as the batches before it are sound: not of the header, which
/// is checked when the file is opened, and not of the padding, which nobody reads.
fn is_in_batch(segment: &[u8], byte: usize) -> bool {
    const BLOCK: usize = 4096;
    let mut at = BLOCK;
    while at <= byte {
        let Some(prefix) = segment.get(at..at + 60) else {
            return false;
        };
        if prefix[..8].iter().all(|byte| *byte == 0) {
            at = (at + 1).next_multiple_of(BLOCK);
            continue;
        }
        let length = u32::from_le_bytes(prefix[56..60].try_into().expect("four bytes")) as usize;
        if byte < at + length {
            return true;
        }
        at += length.max(8);
    }
    false
}
