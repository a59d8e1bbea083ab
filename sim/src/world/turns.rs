//! Cores take turns: what reaches them, what they do with it, what leaves them.

use corelane_broker::lane::{ForwardedRequest, Mail};
use corelane_broker::metadata::OFFSETS_TOPIC;
use corelane_protocol::{CoreId, StoreId, TopicPartition};
use corelane_storage::disk::memory::{Operation, OperationKind, Strike};
use corelane_storage::store::RecoveryReport;

use super::{Event, World};
use crate::counters::Sometimes;
use crate::process::{Input, Milestone};
use crate::shell::Outgoing;
use crate::trace::happens;

/// A turn begins so much after it could, at most.
const DISPATCH_US_MAX: u64 = 20;

/// Mail takes so long, at most.
const MAIL_US_MAX: u64 = 60;

impl World {
    pub(super) fn plan_start(&mut self, broker: usize, in_us: u64) {
        if !self.machines[broker].is_start_planned {
            self.machines[broker].is_start_planned = true;
            self.plan(in_us, Event::Start { broker });
        }
    }

    pub(super) fn start(&mut self, broker: usize) {
        self.machines[broker].is_start_planned = false;
        if self.machines[broker].process.is_some() {
            return;
        }
        self.machines[broker].start();
        self.machines[broker].is_life_healed = self.is_healed;
        let (life, cores) = (self.machines[broker].lives, self.machines[broker].cores);
        self.note(format_args!(
            "broker {broker}: life {life} starts with {cores} cores"
        ));
        self.look_after(broker);
    }

    /// Plans turns for the cores of a machine that have something to do.
    pub(super) fn look_after(&mut self, broker: usize) {
        let machine = &mut self.machines[broker];
        machine.device.run_until_stalled();
        let Some(process) = &mut machine.process else {
            return;
        };
        let life = process.life;
        for core in 0..process.cores.len() {
            let state = &mut self.machines[broker]
                .process
                .as_mut()
                .expect("looked at")
                .cores[core];
            if state.is_turn_planned || (state.inbox.is_empty() && !state.executor.is_ready()) {
                continue;
            }
            state.is_turn_planned = true;
            let us = (self.now_us + self.random.below(DISPATCH_US_MAX)).max(state.busy_until_us);
            self.plan_at(us, Event::Turn { broker, life, core });
        }
    }

    /// Operations of some disk may go on.
    pub(super) fn run_devices(&mut self) {
        for broker in 0..self.machines.len() {
            if self.machines[broker].device.is_ready() {
                self.machines[broker].device.run_until_stalled();
                self.trace_disk(broker);
                self.look_after(broker);
            }
        }
    }

    fn trace_disk(&mut self, broker: usize) {
        for operation in self.machines[broker].disk.drain_trace() {
            let Operation {
                kind,
                path,
                position,
                len,
                struck,
                ..
            } = &operation;
            match struck {
                Some(struck) => self.note(format_args!(
                    "broker {broker}: disk: {kind:?} {path} {position}+{len}: {struck:?}"
                )),
                None => happens!(
                    self,
                    "broker {}: disk: {:?} {} {}+{}",
                    broker,
                    kind,
                    path,
                    position,
                    len
                ),
            }
            self.count_operation(&operation);
            self.follow_compaction(&operation);
            self.count_down_to_power_loss(broker, &operation);
            if struck.is_some() {
                self.machines[broker].was_struck = true;
                self.machines[broker].flush_failed |= operation.kind.is_change();
                if !self.is_healed {
                    self.plan_restart(broker);
                }
            }
        }
    }

    fn count_down_to_power_loss(&mut self, broker: usize, operation: &Operation) {
        let machine = &mut self.machines[broker];
        if machine.power_lost_after_writes.is_none() {
            return;
        }
        let is_group = operation.kind == OperationKind::Write
            && operation.path.contains("/journal-")
            && operation.position > 0;
        let is_serving = machine
            .process
            .as_ref()
            .is_some_and(crate::process::Process::is_serving);
        let Some(writes) = &mut machine.power_lost_after_writes else {
            return;
        };
        // Journal files of one store.
        let store = operation.path.split('/').next().unwrap_or_default();
        let is_beside_another = || {
            let is_journal = |path: &str| path.starts_with(store) && path.contains("/journal-");
            machine.disk.writes_in_flight(is_journal) > 0
        };
        let counts = || !machine.power_lost_in_between || is_beside_another();
        if is_group && is_serving && counts() {
            *writes -= 1;
            if *writes == 0 {
                machine.power_lost_after_writes = None;
                let life = machine.lives;
                self.plan(0, Event::PowerOff { broker, life });
            }
        }
    }

    fn count_operation(&mut self, operation: &Operation) {
        let Operation {
            kind,
            path,
            position,
            struck,
            ..
        } = operation;
        let file = || path.rsplit('/').next().unwrap_or_default();
        let reached = match (struck, kind) {
            (Some(Strike::Failed), OperationKind::Write) => Some(Sometimes::WriteFailed),
            (Some(Strike::Failed), OperationKind::Flush | OperationKind::SyncDir) => {
                Some(Sometimes::FlushFailed)
            }
            (Some(Strike::Failed), OperationKind::Read) => Some(Sometimes::ReadFailed),
            (Some(Strike::Failed), _) => Some(Sometimes::OtherFailed),
            (Some(Strike::Lost), _) => Some(Sometimes::WriteLost),
            (Some(Strike::Misdirected), _) => Some(Sometimes::WriteMisdirected),
            (Some(Strike::Corrupted), _) => Some(Sometimes::ReadCorrupted),
            (None, OperationKind::RemoveFile) if path.ends_with(".log") => {
                Some(Sometimes::SegmentRemoved)
            }
            (None, OperationKind::Rename) => Some(Sometimes::CatalogueRewritten),
            (None, OperationKind::Write) if *position == 0 && file().starts_with("journal-") => {
                // The header of a file that had one is written again only to use the file again.
                let times = self.seen_files.entry(path.to_string()).or_default();
                *times += 1;
                let is_new = *times <= 2;
                Some(if is_new {
                    Sometimes::JournalGrew
                } else {
                    Sometimes::JournalRecycled
                })
            }
            (None, OperationKind::Open) if path.ends_with(".log") => {
                let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir).to_owned();
                if self.seen_files.insert(path.to_string(), 1).is_none() {
                    let times = self.seen_files.entry(dir).or_default();
                    *times += 1;
                    let is_first = *times == 1;
                    Some(if is_first {
                        Sometimes::SegmentMade
                    } else {
                        Sometimes::SegmentRolled
                    })
                } else {
                    None
                }
            }
            _ => None,
        };
        if let Some(reached) = reached {
            self.history.reached(reached);
        }
    }

    /// A core takes its turn.
    pub(super) fn turn(&mut self, broker: usize, life: u32, core: usize) {
        let machine = &mut self.machines[broker];
        let now = machine.now(self.now_us);
        let Some(process) = machine
            .process
            .as_mut()
            .filter(|process| process.life == life)
        else {
            return;
        };
        let state = &mut process.cores[core];
        if state.busy_until_us > self.now_us {
            let us = state.busy_until_us;
            return self.plan_at(us, Event::Turn { broker, life, core });
        }
        let inputs = state.inbox.len() as u64;
        state.is_turn_planned = false;
        state.busy_until_us = self.now_us + 2 + self.random.below(5 * (1 + inputs));
        let openings = process.turn(core, now);
        let reads = process.cores[core]
            .shell
            .as_ref()
            .map_or(0, |shell| shell.take_reads());
        self.history.counters.add(Sometimes::SegmentRead, reads);
        happens!(
            self,
            "broker {}: core {}: {} inputs, {} reads",
            broker,
            core,
            inputs,
            reads
        );
        for (conn, opening) in openings {
            self.opened(conn, opening);
        }
        self.deliver_outgoing(broker, life, core);
        self.advance(broker);
        self.plan_deadline(broker, life, core);
        self.look_after(broker);
    }

    fn deliver_outgoing(&mut self, broker: usize, life: u32, core: usize) {
        loop {
            let process = self.machines[broker].process.as_mut();
            let Some(outgoing) = process.and_then(|process| process.poll_outgoing(core)) else {
                return;
            };
            match outgoing {
                Outgoing::Send { connection, parts } => {
                    if let Some(conn) = self.network.of_lane(broker, core, connection) {
                        self.broker_sends(conn, &parts);
                    }
                }
                Outgoing::Close {
                    connection,
                    after_sending,
                } => {
                    if let Some(conn) = self.network.of_lane(broker, core, connection) {
                        self.broker_closes(conn, after_sending);
                    }
                }
                Outgoing::Receive { connection, on } => {
                    if let Some(conn) = self.network.of_lane(broker, core, connection) {
                        self.broker_receives(conn, on);
                    }
                }
                Outgoing::Mail { to, mail } => {
                    let to = usize::from(to.get());
                    assert_ne!(to, core, "mail to itself");
                    self.post(broker, life, core, to, mail);
                }
            }
        }
    }

    fn post(&mut self, broker: usize, life: u32, from: usize, to: usize, mail: Mail) {
        match &mail {
            Mail::Forward { request, .. } => match request {
                ForwardedRequest::Produce { .. } => {
                    self.history.reached(Sometimes::ProduceForwarded);
                }
                ForwardedRequest::Fetch { .. } => self.history.reached(Sometimes::FetchForwarded),
                _ => {}
            },
            Mail::SourceClosed { .. } => self.history.reached(Sometimes::SourceClosed),
            _ => {}
        }
        let us = self.now_us + 1 + self.random.below(MAIL_US_MAX);
        let queue = &mut self.machines[broker].mail[from][to];
        queue.last_us = queue.last_us.max(us);
        queue.mail.push_back(mail);
        let event = Event::Mail {
            broker,
            life,
            from,
            to,
        };
        let us = queue.last_us;
        self.plan_at(us, event);
    }

    pub(super) fn mail_arrives(&mut self, broker: usize, life: u32, from: usize, to: usize) {
        let machine = &mut self.machines[broker];
        let Some(process) = machine
            .process
            .as_mut()
            .filter(|process| process.life == life)
        else {
            return;
        };
        let mail = machine.mail[from][to]
            .mail
            .pop_front()
            .expect("one event for each letter");
        let sender = CoreId::new(u16::try_from(from).expect("numbered by u16"));
        process.cores[to].inbox.push_back(Input::Mail(sender, mail));
        happens!(
            self,
            "broker {}: mail from core {} to core {}",
            broker,
            from,
            to
        );
        self.look_after(broker);
    }

    /// Something for a core from the network.
    pub(super) fn input(&mut self, broker: usize, life: u32, core: usize, input: Input) {
        let process = self.machines[broker].process.as_mut();
        if let Some(process) = process.filter(|process| process.life == life) {
            process.cores[core].inbox.push_back(input);
            self.look_after(broker);
        }
    }

    fn plan_deadline(&mut self, broker: usize, life: u32, core: usize) {
        let Some(process) = &mut self.machines[broker].process else {
            return;
        };
        let Some(state) = process.cores.get_mut(core).filter(|_| process.life == life) else {
            return;
        };
        let deadline = state
            .shell
            .as_ref()
            .and_then(|shell| shell.next_deadline_us());
        // Monotonic time begins a second before the world does.
        let Some(us) = deadline.map(|us| us.saturating_sub(1_000_000).max(self.now_us)) else {
            return;
        };
        if state.armed_us.is_none_or(|armed| us < armed) {
            state.armed_us = Some(us);
            self.plan_at(us, Event::Deadline { broker, life, core });
        }
    }

    pub(super) fn deadline(&mut self, broker: usize, life: u32, core: usize) {
        let process = self.machines[broker].process.as_mut();
        let Some(process) = process.filter(|process| process.life == life) else {
            return;
        };
        let state = &mut process.cores[core];
        if state.armed_us.is_some_and(|armed| armed <= self.now_us) {
            state.armed_us = None;
            state.inbox.push_back(Input::Tick);
            self.look_after(broker);
        }
    }

    /// Takes a process through its phases.
    fn advance(&mut self, broker: usize) {
        let Some(process) = &mut self.machines[broker].process else {
            return;
        };
        let was_draining = process.is_ending();
        let Some(milestone) = process.advance() else {
            if was_draining {
                self.look_after(broker);
            }
            return;
        };
        match milestone {
            Milestone::Serves { reports, is_new } => {
                let is_first = self.machines[broker].lives == 1;
                if is_new && !is_first {
                    self.history.reached(Sometimes::DirectoryMadeAgain);
                }
                self.serves(broker, reports);
            }
            Milestone::Failed(problem) => {
                self.note(format_args!("broker {broker}: does not start: {problem}"));
                self.history.reached(Sometimes::StartFailed);
                self.start_failed(broker, &problem);
            }
            Milestone::Ended(problems) => {
                self.note(format_args!(
                    "broker {broker}: ended in order: {problems:?}"
                ));
                self.connections_end(broker);
                self.compaction_ends(broker);
                self.machines[broker].kill();
                let guarding = &mut self.history.keeping.guarding;
                if !problems.is_empty() || guarding.may_be_full(self.now_us) {
                    guarding.crashed(self.now_us);
                }
                self.history.broker_ended(self.now_us);
                self.choose_cores(broker);
                let pause = 1_000 + self.random.below(300_000);
                self.plan_start(broker, pause);
            }
        }
    }

    fn serves(&mut self, broker: usize, reports: Vec<(StoreId, RecoveryReport)>) {
        self.note(format_args!("broker {broker}: serves"));
        if self.has_snapshot(broker) {
            self.history.reached(Sometimes::GroupLogShortened);
        }
        let is_first = !std::mem::replace(&mut self.machines[broker].has_served, true);
        let mut unclean = Vec::new();
        for (store, report) in reports {
            self.note(format_args!(
                "broker {broker}: store {store}: clean {}, {} groups replayed, discarded from {:?}, failed {:?}, fenced {:?}, {:?}",
                report.was_clean,
                report.groups_replayed,
                report.discarded_from,
                report.failed,
                report.fenced,
                report.warnings,
            ));
            self.count_recovery(&report, is_first);
            if !report.was_clean {
                unclean.push(store);
            }
            // A disk that was full through many starts has used up the catalogue's reserve, as the store says.
            let is_full = report
                .fenced
                .as_ref()
                .is_some_and(|reason| reason.contains("has no room"));
            let is_damaged = (report.fenced.is_some() && !is_full) || !report.failed.is_empty();
            let was_struck = self.machines[broker].was_struck;
            if is_damaged && !was_struck && !self.may_be_damaged() {
                let problem = format!("store {store} is damaged though no device lied: {report:?}");
                self.history.problem(problem);
            }
        }
        self.cut_back_weak(broker, &unclean);
        self.judge_epochs(broker, &unclean);
    }

    /// A store that was not closed must have raised the leader epochs of its partitions, and any other none.
    fn judge_epochs(&mut self, broker: usize, unclean: &[StoreId]) {
        let machine = &mut self.machines[broker];
        let process = machine.process.as_ref().expect("it serves");
        for (store, partition, epoch, awaits_room) in process.leader_epochs() {
            // One that is not recorded may be begun once more.
            let recorded = epoch - u32::from(awaits_room);
            let before = machine.epochs.insert(partition, recorded);
            let is_unclean = unclean.contains(&store);
            let is_right = match before {
                None => true,
                Some(before) if is_unclean => epoch > before,
                Some(before) => epoch >= before,
            };
            if !is_right && self.profile.damage == crate::profile::Damage::None {
                let problem = format!(
                    "leader epoch {epoch} of {partition} follows {before:?}, unclean: {is_unclean}"
                );
                self.history.problem(problem);
            }
        }
    }

    fn count_recovery(&mut self, report: &RecoveryReport, is_first: bool) {
        let history = &mut self.history;
        if !is_first {
            history.reached(if report.was_clean {
                Sometimes::RecoveredClean
            } else {
                Sometimes::RecoveredUnclean
            });
        }
        history
            .counters
            .add(Sometimes::GroupsReplayed, report.groups_replayed);
        history
            .counters
            .add(Sometimes::ExtentsReplayed, report.extents_replayed);
        let discarded = u64::from(report.discarded_from.is_some());
        history
            .counters
            .add(Sometimes::TornGroupDiscarded, discarded);
        let failed = report.failed.len() as u64;
        history
            .counters
            .add(Sometimes::PartitionFailedInRecovery, failed);
        let unfit = u64::from(report.fenced.is_some());
        history.counters.add(Sometimes::StoreUnfit, unfit);
    }

    /// Weak topics may have lost their ends in stores that were not closed.
    fn cut_back_weak(&mut self, broker: usize, unclean: &[StoreId]) {
        for (store, partition, end) in self.weak_logs(broker) {
            if unclean.contains(&store) {
                self.history.cut_back(self.now_us, partition, end);
            }
        }
    }

    /// Whether a log of groups begins with a snapshot.
    fn has_snapshot(&self, broker: usize) -> bool {
        let process = self.machines[broker].process.as_ref();
        let shell = process.and_then(|process| process.shells().next());
        let Some((process, shell)) = process.zip(shell) else {
            return false;
        };
        let lane = shell.lane.borrow();
        let topic = lane
            .image()
            .topic_named(OFFSETS_TOPIC)
            .map(|topic| topic.id);
        let starts = process.log_starts();
        starts
            .iter()
            .any(|(partition, start)| Some(partition.topic) == topic && *start > 0)
    }

    /// The partitions that are acknowledged from memory, each with its store and the end of its log.
    pub(super) fn weak_logs(&self, broker: usize) -> Vec<(StoreId, TopicPartition, u64)> {
        let Some(process) = &self.machines[broker].process else {
            return Vec::new();
        };
        let Some(shell) = process.shells().next() else {
            return Vec::new();
        };
        let lane = shell.lane.borrow();
        let weak = lane.image().topic_named(crate::run::WEAK_TOPIC);
        let Some(weak) = weak.map(|topic| topic.id) else {
            return Vec::new();
        };
        let mut logs = process.log_ends();
        logs.retain(|(_, partition, _)| partition.topic == weak);
        logs
    }

    pub(super) fn may_be_damaged(&self) -> bool {
        self.profile.damage != crate::profile::Damage::None
    }
}
