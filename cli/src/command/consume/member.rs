//! Reads as a member of a consumer group.
//!
//! The client counts records as processed once it is asked for the next ones, and commits what was
//! processed. So the next ones are asked for only when everything was written out. Writing is done on a
//! thread of its own: a pipe that nobody reads does not keep a signal from being noticed.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use corelane_client::{Client, Error, ErrorKind, GroupConsumer, OffsetReset, Records};
use corelane_protocol::ErrorCode;
use indicatif::ProgressBar;
use tokio::sync::mpsc as results;

use super::Arguments;
use super::printer::Printer;
use super::rebalance::{Holdings, Listener};
use crate::failure::Failure;
use crate::input::start::From;
use crate::interrupt::{self, Interrupted};
use crate::output::say;
use crate::runtime::{check_partition, connect_patiently};

/// How often what was written out is committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How long a signal waits for records that are just being written out.
const WRITING_PATIENCE: Duration = Duration::from_secs(1);
/// How often the group is asked whether the member is to get more, where it has read everything.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why reading has ended.
#[derive(Debug)]
enum End {
    /// Everything that was wanted was printed.
    Done,
    Signal(i32),
    Failed(Failure),
}

pub(super) async fn consume(arguments: Arguments) -> Result<(), Failure> {
    let mut interrupted = interrupt::listen()?;
    let client = connect_patiently(&arguments.broker, "until it is back").await?;
    for topic in &arguments.topics {
        check_partition(&client, topic, None).await?;
    }
    let joined = tokio::select! {
        joined = join(&client, &arguments) => joined,
        signal = interrupt::interrupted(&mut interrupted) => return Err(Failure::Interrupted(signal)),
    };
    let (member, holdings) = joined?;
    let mut reading = Reading {
        client,
        group: arguments.group.name.clone().unwrap_or_default(),
        until_end: arguments.until_end,
        printing: Printing::start(&arguments),
        member,
        holdings,
        failed: 0,
        in_hand: None,
    };
    let end = reading.run(&mut interrupted).await;
    reading.finish(end).await
}

/// Joins the group.
async fn join(
    client: &Client,
    arguments: &Arguments,
) -> Result<(GroupConsumer, Arc<Holdings>), Failure> {
    let group = &arguments.group;
    let name = group.name.clone().unwrap_or_default();
    let holdings = Holdings::new(
        client.clone(),
        name.clone(),
        arguments.from,
        arguments.until_end,
    );
    let holdings = Arc::new(holdings);
    let mut builder = client
        .group(name)
        .topics(&arguments.topics)
        .auto_commit(Some(COMMIT_EVERY))
        .listener(Listener(Arc::clone(&holdings)))
        .offset_reset(match arguments.from {
            From::End => OffsetReset::Latest,
            _ => OffsetReset::Earliest,
        });
    if let Some(pattern) = &group.pattern {
        builder = builder.pattern(pattern);
    }
    if let Some(instance) = &group.instance {
        builder = builder.instance(instance);
    }
    if let Some(assignor) = &group.assignor {
        builder = builder.assignor(assignor);
    }
    if let Some(timeout) = group.session_timeout {
        builder = builder.session_timeout(Duration::from_millis(timeout));
    }
    if let Some(interval) = group.max_poll_interval {
        builder = builder.max_poll_interval(Duration::from_millis(interval));
    }
    let member = builder.join().await.map_err(Failure::new)?;
    Ok((member, holdings))
}

struct Reading {
    client: Client,
    group: String,
    until_end: bool,
    printing: Printing,
    member: GroupConsumer,
    holdings: Arc<Holdings>,
    /// Partitions that have failed, and are left alone.
    failed: usize,
    /// Records that the client was not told to be done yet: their partition, and up to where they were
    /// written out.
    in_hand: Option<InHand>,
}

struct InHand {
    topic: String,
    partition: u32,
    /// Where they begin, or what follows the last one that was written out.
    written_to: u64,
    end: u64,
}

impl Reading {
    /// Prints until the end, the limit, a signal, or for ever. A partition that fails is reported, and the
    /// others go on.
    async fn run(&mut self, interrupted: &mut Interrupted) -> End {
        loop {
            if self.until_end && self.has_read_all() {
                let more = tokio::select! {
                    more = self.may_get_more() => more,
                    signal = interrupt::interrupted(interrupted) => return End::Signal(signal),
                };
                match more {
                    // Partitions may have come while the group was asked.
                    Ok(false) if self.has_read_all() => return End::Done,
                    Ok(_) => {}
                    Err(failure) => return End::Failed(failure),
                }
            }
            let look = async {
                if self.until_end {
                    tokio::time::sleep(LOOK_EVERY).await;
                } else {
                    std::future::pending().await
                }
            };
            let next = tokio::select! {
                biased;
                signal = interrupt::interrupted(interrupted) => return End::Signal(signal),
                next = self.member.next() => next,
                () = self.holdings.changed() => continue,
                () = look => continue,
            };
            // The client was asked for more: what it gave before counts as processed.
            self.in_hand = None;
            let records = match next {
                Ok(records) => records,
                Err(error) => match self.failure(&error) {
                    Some(failure) => return End::Failed(failure),
                    None => {
                        // The same may come again at once.
                        tokio::time::sleep(LOOK_EVERY).await;
                        continue;
                    }
                },
            };
            if let Some(end) = self.print(records, interrupted).await {
                return end;
            }
        }
    }

    /// Whether everything that is held was read up to its end, but for what has failed.
    fn has_read_all(&self) -> bool {
        !self.holdings.has_unread(&self.member, self.failed)
    }

    /// Whether the group is to give partitions to this member that it does not hold yet.
    async fn may_get_more(&self) -> Result<bool, Failure> {
        let group = match self.client.admin().describe_group(&self.group).await {
            Ok(group) => group,
            Err(error) if error.is_retriable() => return Ok(true),
            Err(error) => return Err(Failure::new(error)),
        };
        let id = self.member.member_id();
        let this = group.members.iter().find(|member| member.id == id);
        Ok(this.is_none_or(|this| !self.holdings.has_all(&this.target)))
    }

    /// Prints records and writes them out. Gives why that is the end, if it is.
    async fn print(&mut self, records: Records, interrupted: &mut Interrupted) -> Option<End> {
        let first = records.iter().next().map(|record| record.offset());
        let in_hand = self.in_hand.insert(InHand {
            topic: records.topic().to_owned(),
            partition: records.partition(),
            written_to: first.unwrap_or(records.end_offset()),
            end: records.end_offset(),
        });
        let writing = self.printing.print(records);
        tokio::pin!(writing);
        let (signal, written) = tokio::select! {
            written = &mut writing => (None, Some(written)),
            signal = interrupt::interrupted(interrupted) => {
                let written = tokio::time::timeout(WRITING_PATIENCE, writing).await;
                (Some(signal), written.ok())
            }
        };
        let is_done = match written {
            Some(Ok(written)) if written.is_done => {
                in_hand.written_to = written.next.unwrap_or(in_hand.written_to);
                true
            }
            Some(Ok(_)) => {
                self.in_hand = None;
                false
            }
            Some(Err(failure)) => return Some(End::Failed(failure)),
            None => false,
        };
        match signal {
            Some(signal) => Some(End::Signal(signal)),
            None => is_done.then_some(End::Done),
        }
    }

    /// Reports an error, unless it is to be the last one.
    fn failure(&mut self, error: &Error) -> Option<Failure> {
        let code = error.code();
        match (error.kind(), code) {
            // The broker does not take this member, and would not the next time.
            (
                _,
                Some(
                    ErrorCode::InstanceInUse
                    | ErrorCode::GroupLimit
                    | ErrorCode::InvalidRequest
                    | ErrorCode::UnsupportedApi
                    | ErrorCode::UnsupportedVersion,
                ),
            ) => return Some(Failure::new(error)),
            // Partitions that were lost are said by the listener; a commit that failed is tried again.
            (
                ErrorKind::Truncated
                | ErrorKind::OffsetReset
                | ErrorKind::MembershipLost
                | ErrorKind::Connection
                | ErrorKind::TimedOut
                | ErrorKind::OutcomeUnknown,
                _,
            )
            | (
                _,
                Some(
                    ErrorCode::UnknownMember | ErrorCode::StaleGeneration | ErrorCode::NotAssigned,
                ),
            ) => say(format_args!("warning: {error}")),
            _ => {
                self.failed += 1;
                say(format_args!("error: {error}"));
            }
        }
        None
    }

    /// Commits what was written out, and leaves the group.
    async fn finish(mut self, end: End) -> Result<(), Failure> {
        self.holdings.close();
        let mut closed = Ok(());
        match self.settle() {
            Ok(()) => closed = self.member.close().await,
            // Closing would commit records that were not written out: better some come twice.
            Err(error) => say(format_args!(
                "warning: group {} is left only once the session is over, and what was printed last is printed again: {error}",
                self.group
            )),
        }
        let committed = closed.map_err(|error| {
            Failure::with_advice(
                format_args!("group {}: {error}", self.group),
                "what was printed last may be printed again by whoever consumes next",
            )
        });
        let end = match end {
            End::Done if self.failed == 0 => return committed,
            End::Done => Failure::Reported,
            End::Signal(signal) => Failure::Interrupted(signal),
            End::Failed(failure) => failure,
        };
        if let Err(failure) = committed {
            failure.report();
        }
        Err(end)
    }

    /// Goes back to what was written out, where records were handed out beyond it.
    fn settle(&mut self) -> Result<(), Error> {
        match self.in_hand.take() {
            Some(in_hand) if in_hand.written_to < in_hand.end => {
                self.member
                    .seek(&in_hand.topic, in_hand.partition, in_hand.written_to)
            }
            _ => Ok(()),
        }
    }
}

/// The thread that writes out.
struct Printing {
    records: mpsc::Sender<Records>,
    written: results::UnboundedReceiver<Result<Written, Failure>>,
}

/// What came of printing some records.
struct Written {
    /// What follows the last one that was written out.
    next: Option<u64>,
    /// Whether no more are wanted.
    is_done: bool,
}

impl Printing {
    fn start(arguments: &Arguments) -> Self {
        let (form, max) = (arguments.form(), arguments.max);
        let (records, to_print) = mpsc::channel::<Records>();
        let (outcomes, written) = results::unbounded_channel();
        thread::spawn(move || {
            let mut printer = Printer::new(form, max, ProgressBar::hidden());
            for records in to_print {
                let printed = printer.print(&records);
                let outcome = printed.and_then(|next| {
                    printer.flush()?;
                    Ok(Written {
                        next,
                        is_done: printer.is_done(),
                    })
                });
                // The command may have ended meanwhile.
                let _ = outcomes.send(outcome);
            }
        });
        Self { records, written }
    }

    /// Prints records and writes them out. At most one such future lives at a time.
    async fn print(&mut self, records: Records) -> Result<Written, Failure> {
        let ended = || Failure::new("the thread that prints has ended early");
        self.records.send(records).map_err(|_| ended())?;
        self.written.recv().await.ok_or_else(ended)?
    }
}
