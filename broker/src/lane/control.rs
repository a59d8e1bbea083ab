//! The controller's core: commands become records, are logged, applied everywhere, then answered.
//!
//! One command at a time goes through its stages: logged durably; applied by every core, stores
//! included; shown to clients by every core; answered. So a client that was answered, or that has
//! seen a topic in the metadata, finds it on whichever core it asks. What agrees on the log between
//! brokers takes the place of the first stage only.

use std::collections::VecDeque;
use std::sync::Arc;

use corelane_protocol::{ApiError, CoreId, ErrorCode, TopicId};
use corelane_storage::disk::Disk;

use super::{Effect, Lane, Mail, Now, TaskFailure};
use crate::controller::{Command, CommandReply, Controller};
use crate::metadata::MetadataRecord;

/// Commands that may wait for the one in work.
const COMMANDS_MAX: usize = 1024;

/// The controller's state beside the image.
pub(super) struct Control {
    topic_ids: Box<dyn FnMut() -> TopicId>,
    waiting: VecDeque<WaitingCommand>,
    current: Option<CurrentCommand>,
    /// Appends to the metadata log so far.
    appends: u64,
    /// Why the metadata log takes no more.
    failed: Option<String>,
}

struct WaitingCommand {
    asker: Asker,
    command: Command,
}

/// Who gave a command: a core, and its name for it.
#[derive(Clone, Copy)]
struct Asker {
    core: CoreId,
    token: u64,
}

struct CurrentCommand {
    asker: Asker,
    reply: CommandReply,
    stage: Stage,
    /// What stores could not do.
    failures: Vec<String>,
}

enum Stage {
    /// The log is being written.
    Appending {
        token: u64,
        records: Arc<[MetadataRecord]>,
    },
    /// So many cores have not done that with the records up to `position`.
    Following {
        step: Step,
        position: u64,
        missing: usize,
    },
}

/// What every core does with records, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Apply,
    Show,
}

impl Control {
    pub(super) fn new(topic_ids: Box<dyn FnMut() -> TopicId>) -> Self {
        Self {
            topic_ids,
            waiting: VecDeque::new(),
            current: None,
            appends: 0,
            failed: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }
}

impl<D: Disk> Lane<D> {
    /// A command for the controller, which this core has.
    pub(super) fn take_command(&mut self, core: CoreId, token: u64, command: Command) {
        let asker = Asker { core, token };
        let control = self
            .control
            .as_mut()
            .expect("commands go to the controller's core");
        let refusal = if let Some(message) = &control.failed {
            ApiError::new(ErrorCode::StorageFailed, message.as_str())
        } else if control.waiting.len() >= COMMANDS_MAX {
            let message = format!("{COMMANDS_MAX} commands wait for the controller");
            ApiError::new(ErrorCode::Overloaded, message)
        } else {
            control.waiting.push_back(WaitingCommand { asker, command });
            return self.start_commands();
        };
        self.finish_command(asker, Err(refusal));
    }

    /// Decides waiting commands until one of them has to be logged.
    fn start_commands(&mut self) {
        loop {
            let stores = u16::try_from(self.topology.stores.len()).expect("numbered by u16");
            let control = self
                .control
                .as_mut()
                .expect("only the controller's core calls this");
            if control.current.is_some() {
                return;
            }
            let Some(WaitingCommand { asker, command }) = control.waiting.pop_front() else {
                return;
            };
            let controller = Controller::new(&self.config, stores, &self.unfit);
            let decision = controller.command(&self.image, &command, &mut control.topic_ids);
            if decision.records.is_empty() {
                self.finish_command(asker, Ok(decision.reply));
                continue;
            }
            control.appends += 1;
            let token = control.appends;
            let frees_room = matches!(command, Command::DeleteTopics { .. });
            let records = decision
                .records
                .iter()
                .map(MetadataRecord::encode)
                .collect();
            control.current = Some(CurrentCommand {
                asker,
                reply: decision.reply,
                stage: Stage::Appending {
                    token,
                    records: decision.records.into(),
                },
                failures: Vec::new(),
            });
            self.effects.push_back(Effect::AppendMetadata {
                token,
                records,
                frees_room,
            });
            if corelane_storage::planted!(MetadataBeforeDurable) {
                self.records_logged(token);
            }
        }
    }

    /// The metadata log has been written, or not.
    pub fn metadata_appended(&mut self, now: Now, token: u64, result: Result<(), TaskFailure>) {
        self.meters.begin_event(now);
        match result {
            Ok(()) if corelane_storage::planted!(MetadataBeforeDurable) => {}
            Ok(()) => self.records_logged(token),
            Err(TaskFailure::DiskFull(problem)) => self.metadata_log_full(&problem),
            Err(TaskFailure::Failed(problem)) => self.metadata_log_failed(&problem),
        }
        self.finish_event(now);
    }

    fn records_logged(&mut self, token: u64) {
        let missing = self.topology.cores.len();
        let applied = self.image.records_applied();
        let current = self.current_command();
        let Stage::Appending {
            token: awaited,
            records,
        } = &current.stage
        else {
            unreachable!("an append is reported once");
        };
        assert_eq!(*awaited, token, "one append is out at a time");
        let records = Arc::clone(records);
        for record in records.iter() {
            if !matches!(record, MetadataRecord::PartitionsPlaced { .. }) {
                tracing::info!(%record, "the metadata change");
            }
        }
        let position = applied + records.len() as u64;
        current.stage = Stage::Following {
            step: Step::Apply,
            position,
            missing,
        };
        for to in self.other_cores() {
            let records = Arc::clone(&records);
            self.post(to, Mail::MetadataRecords { position, records });
        }
        self.apply_records(position, &records);
    }

    /// The disk has no room for the records: the command is refused, and others may be tried.
    fn metadata_log_full(&mut self, problem: &str) {
        let message = format!("the metadata log has no room: {problem}");
        tracing::warn!(message);
        let control = self.control.as_mut();
        let control = control.expect("only the controller's core logs");
        let refused = control.current.take().expect("a command is in work");
        let error = ApiError::new(ErrorCode::DiskFull, message);
        self.finish_command(refused.asker, Err(error));
        self.start_commands();
    }

    /// The log takes nothing more until a restart reads it again; whether the records are in it is
    /// not known, so they are not applied.
    fn metadata_log_failed(&mut self, problem: &str) {
        let message = format!("the metadata log failed: {problem}");
        tracing::error!(message);
        let control = self
            .control
            .as_mut()
            .expect("only the controller's core logs");
        let error = ApiError::new(ErrorCode::StorageFailed, message.as_str());
        control.failed = Some(message);
        let current = control.current.take().map(|current| current.asker);
        let waiting = std::mem::take(&mut control.waiting);
        let askers = waiting.into_iter().map(|waiting| waiting.asker);
        for asker in current.into_iter().chain(askers) {
            self.finish_command(asker, Err(error.clone()));
        }
    }

    /// A core has applied the records up to `position`.
    pub(super) fn core_applied(&mut self, position: u64, failure: Option<String>) {
        let current = self.current_command();
        current.failures.extend(failure);
        if !self.core_followed(Step::Apply, position) {
            return;
        }
        let missing = self.topology.cores.len();
        self.current_command().stage = Stage::Following {
            step: Step::Show,
            position,
            missing,
        };
        for to in self.other_cores() {
            self.post(to, Mail::MetadataVisible { position });
        }
        self.show_topics(position);
        self.core_shown(position);
    }

    /// A core shows what was applied up to `position`.
    pub(super) fn core_shown(&mut self, position: u64) {
        if !self.core_followed(Step::Show, position) {
            return;
        }
        let control = self.control.as_mut().expect("just used");
        let mut done = control.current.take().expect("just looked up");
        if !done.failures.is_empty() {
            let message = format!(
                "the change is logged, but a store could not follow: {}",
                done.failures.join("; ")
            );
            for (_, result) in done.reply.iter_mut().filter(|(_, result)| result.is_ok()) {
                *result = Err(ApiError::new(ErrorCode::StorageFailed, message.as_str()));
            }
        }
        self.finish_command(done.asker, Ok(done.reply));
        self.start_commands();
    }

    /// A core has done a step; whether it was the last of them.
    fn core_followed(&mut self, done: Step, done_to: u64) -> bool {
        let Stage::Following {
            step,
            position,
            missing,
        } = &mut self.current_command().stage
        else {
            unreachable!("cores follow what is logged");
        };
        assert_eq!((*step, *position), (done, done_to), "in order, and once");
        *missing -= 1;
        *missing == 0
    }

    /// The command in work.
    fn current_command(&mut self) -> &mut CurrentCommand {
        let control = self.control.as_mut();
        let control = control.expect("only the controller's core logs, and all report to it");
        control.current.as_mut().expect("a command is in work")
    }

    /// Tells whoever gave the command.
    fn finish_command(&mut self, asker: Asker, reply: Result<CommandReply, ApiError>) {
        let Asker { core, token } = asker;
        if core == self.core {
            self.command_done(token, reply);
        } else {
            self.post(core, Mail::CommandDone { token, reply });
        }
    }

    fn other_cores(&self) -> Vec<CoreId> {
        let cores = self.topology.cores.iter().map(|address| address.core);
        cores.filter(|core| *core != self.core).collect()
    }
}
