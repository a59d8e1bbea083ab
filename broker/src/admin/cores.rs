//! What a core and its stores say of themselves, in the words of the state.

use corelane_storage::store::StoreMetrics;

use super::ask::CoreAnswer;
use super::state::{
    CoreGroupsState, CoreState, Counts, MailboxState, RequestState, RingState, StageState,
    StoreState,
};
use crate::lane::{GroupsMetrics, RequestMetrics};

pub(super) fn core_state(core: u16, answer: CoreAnswer) -> CoreState {
    let lane = answer.lane;
    let ring = answer.ring;
    CoreState {
        core,
        cpu_us: answer.cpu_us,
        connections: lane.connections as u64,
        connections_opened: lane.connections_opened,
        connections_refused: lane.connections_refused,
        connections_timed_out: lane.connections_timed_out,
        connections_unread: lane.connections_unread,
        received_bytes: lane.received_bytes,
        sent_bytes: lane.sent_bytes,
        in_flight_bytes: lane.in_flight_bytes,
        reply_bytes: lane.reply_bytes,
        waiting_produces: lane.waiting_produces as u64,
        waiting_fetches: lane.waiting_fetches as u64,
        requests: lane.requests.iter().map(request_state).collect(),
        stages: lane
            .stages
            .iter()
            .map(|(api, stage, times)| StageState {
                api: (*api).to_owned(),
                stage: (*stage).to_owned(),
                times: times.into(),
            })
            .collect(),
        sends: Counts::from(&lane.sends),
        mailboxes: lane
            .mailboxes
            .iter()
            .map(|mailbox| MailboxState {
                to: mailbox.to.get(),
                requests: u64::from(mailbox.requests),
                bytes: mailbox.bytes,
            })
            .collect(),
        mailbox_refused: lane.mailbox_refused,
        mail_queued: answer.mail_queued as u64,
        paced_waiting: lane.paced_waiting as u64,
        paced: lane.paced,
        memory_cap: lane.memory_cap as u64,
        memory: lane
            .memory
            .iter()
            .map(|(kind, bytes)| (kind.name().to_owned(), *bytes as u64))
            .collect(),
        partitions: lane.partitions as u64,
        groups: core_groups_state(&lane.groups),
        ring: RingState {
            in_flight: u64::from(ring.in_flight),
            turns: ring.stats.turns,
            enters: ring.stats.enters,
            parks: ring.stats.parks,
            submitted: ring.stats.submitted,
            buffers_exhausted: ring.stats.buffers_exhausted,
            turn_times: Counts::from(&ring.turn_times),
        },
    }
}

fn core_groups_state(groups: &GroupsMetrics) -> CoreGroupsState {
    let since_start = groups.since_start;
    CoreGroupsState {
        groups: groups.groups as u64,
        members: groups.members as u64,
        offsets: groups.offsets as u64,
        shards_serving: groups.shards_serving as u64,
        shards_loading: groups.shards_loading as u64,
        shards_failed: groups.shards_failed as u64,
        generations: since_start.generations,
        members_expired: since_start.members_expired,
        commits: since_start.commits,
        commits_refused: since_start.commits_refused,
    }
}

fn request_state(request: &RequestMetrics) -> RequestState {
    RequestState {
        api: request.api.to_owned(),
        times: Counts::from(&request.times),
        errors: request.errors.clone(),
    }
}

pub(super) fn store_state(core: u16, store: &StoreMetrics) -> StoreState {
    StoreState {
        store: store.id.get(),
        core,
        fenced: store.fenced.clone(),
        is_disk_full: store.is_disk_full,
        is_reserve_touched: store.is_reserve_touched,
        partitions: store.partitions as u64,
        journal_files_in_use: store.journal_files_in_use as u64,
        journal_files_armed: store.journal_files_armed as u64,
        journal_files_max: store.journal_files_max as u64,
        journal_file_bytes: store.journal_file_bytes,
        journal_replay_bytes: store.journal_replay_bytes,
        groups_in_flight: store.groups_in_flight as u64,
        waiting_bytes: store.waiting_bytes as u64,
        group_bytes: Counts::from(&store.group_bytes),
        group_wait: Counts::from(&store.group_wait),
        group_write: Counts::from(&store.group_write),
        straight_parts: store.straight_parts,
        straight_bytes: store.straight_bytes,
        spills: store.spills,
        spilled_bytes: store.spilled_bytes,
        segment_handles: store.segment_handles as u64,
        scrubbed_segments: store.scrubbed_segments,
        scrubbed_bytes: store.scrubbed_bytes,
        damage_found: store.damage_found,
        compaction_passes: store.compaction.passes,
        compaction_read_bytes: store.compaction.read_bytes,
        compaction_written_bytes: store.compaction.written_bytes,
        compaction_records_removed: store.compaction.records_removed,
        weak_losses: store.weak_losses as u64,
        producers_bytes: store.producers_bytes as u64,
    }
}
