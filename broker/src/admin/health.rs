//! Whether a broker is alive, and whether it serves everything that it should.
//!
//! Decides by what it is given; asks nobody.

use serde::Serialize;

use super::state::{BrokerState, Phase};

/// What is said to who asks for health or readiness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    #[serde(skip)]
    pub(super) is_good: bool,
    status: &'static str,
    /// What is wrong and what to do about it.
    problems: Vec<String>,
}

impl Verdict {
    fn new(status: &'static str, problems: Vec<String>) -> Self {
        Self {
            is_good: problems.is_empty(),
            status,
            problems,
        }
    }

    /// What is wrong and what to do about it.
    pub(super) fn into_problems(self) -> Vec<String> {
        self.problems
    }
}

/// A broker is healthy while every core that should answer does. One that recovers or ends is left alone: to kill it
/// would only make it begin again.
pub(super) fn health(phase: Phase, silent: &[u16], patience_ms: u128) -> Verdict {
    match phase {
        Phase::Starting => Verdict::new("starting", Vec::new()),
        Phase::Draining => Verdict::new("draining", Vec::new()),
        Phase::Serving if silent.is_empty() => Verdict::new("healthy", Vec::new()),
        Phase::Serving => {
            let problems = silent.iter().map(|core| silent_core(*core, patience_ms));
            Verdict::new("unhealthy", problems.collect())
        }
    }
}

/// A broker is ready while it takes requests for all of its partitions.
pub(super) fn readiness(state: &BrokerState, patience_ms: u128) -> Verdict {
    let mut problems = Vec::new();
    match state.phase {
        Phase::Starting => {
            problems.push("the broker recovers its stores; wait until it is ready".to_owned());
        }
        Phase::Draining => problems.push("the broker is about to stop".to_owned()),
        Phase::Serving => {}
    }
    for core in &state.silent_cores {
        problems.push(silent_core(*core, patience_ms));
    }
    for store in &state.stores {
        let number = store.store;
        if let Some(reason) = &store.fenced {
            problems.push(format!(
                "store {number} takes no appends: {reason}. Look into the broker's log and at the disk, put back what \
                 is missing or damaged, and restart"
            ));
        } else if store.is_disk_full {
            problems.push(format!(
                "store {number} finds no room on the disk: free space, or delete topics; it goes on by itself"
            ));
        } else if store.is_reserve_touched {
            problems.push(format!(
                "store {number} takes no appends while less than log.disk_reserve_bytes is free on the disk: free \
                 space, shorten retention or delete topics; it goes on by itself"
            ));
        }
    }
    let status = if problems.is_empty() {
        "ready"
    } else {
        "not ready"
    };
    Verdict::new(status, problems)
}

/// What should be known of a broker although it serves.
pub(super) fn notices(state: &BrokerState) -> Vec<String> {
    let mut notices = Vec::new();
    for store in &state.stores {
        let number = store.store;
        if store.damage_found > 0 {
            notices.push(format!(
                "store {number}: {} places of segment files were found damaged; the broker's log says where, and the \
                 partitions count theirs",
                store.damage_found
            ));
        }
        if store.weak_losses > 0 {
            notices.push(format!(
                "store {number}: {} partitions with flush.messages or flush.ms may have lost acknowledged records, \
                 since the broker was not closed in order before its start",
                store.weak_losses
            ));
        }
    }
    for core in &state.cores {
        let failed = core.groups.shards_failed;
        if failed > 0 {
            notices.push(format!(
                "core {}: groups of {failed} partitions of __offsets are not served, because the log of these could \
                 not be read or written; it is tried again",
                core.core
            ));
        }
    }
    if state.log_lines_lost > 0 {
        notices.push(format!(
            "{} lines of the broker's own log could not be written",
            state.log_lines_lost
        ));
    }
    notices
}

fn silent_core(core: u16, patience_ms: u128) -> String {
    format!(
        "core {core} has not answered for {patience_ms} ms: look at its thread core-{core} (`top -H`) and at the disk; \
         if it stays so, restart the broker"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::state::{CoreState, StoreState};

    #[test]
    fn a_silent_core_is_named() {
        assert!(health(Phase::Serving, &[], 2000).is_good);
        let verdict = health(Phase::Serving, &[3], 2000);
        assert!(!verdict.is_good && verdict.problems[0].contains("core 3 has not answered"));
        // Its cores need not answer yet, or any more.
        assert!(health(Phase::Starting, &[0, 1], 2000).is_good);
        assert!(health(Phase::Draining, &[0, 1], 2000).is_good);
    }

    #[test]
    fn what_is_not_served_is_said_with_what_to_do() {
        let mut state = BrokerState {
            phase: Phase::Serving,
            stores: vec![StoreState::default(), StoreState::default()],
            ..BrokerState::default()
        };
        assert!(readiness(&state, 2000).is_good);
        state.stores[1].store = 1;
        state.stores[1].fenced = Some("journal-0000: I/O error".to_owned());
        let verdict = readiness(&state, 2000);
        assert!(!verdict.is_good);
        assert!(verdict.problems[0].starts_with("store 1 takes no appends: journal-0000"));
        state.stores[1].fenced = None;
        state.stores[1].is_reserve_touched = true;
        assert!(readiness(&state, 2000).problems[0].contains("log.disk_reserve_bytes"));
        state.stores[1].is_disk_full = true;
        assert!(readiness(&state, 2000).problems[0].contains("no room"));
        for phase in [Phase::Starting, Phase::Draining] {
            state.phase = phase;
            assert!(!readiness(&state, 2000).is_good);
        }
    }

    #[test]
    fn what_was_lost_or_damaged_is_a_notice_and_keeps_nobody_from_being_ready() {
        let mut state = BrokerState {
            phase: Phase::Serving,
            cores: vec![CoreState::default()],
            stores: vec![StoreState::default()],
            ..BrokerState::default()
        };
        assert_eq!(notices(&state), [""; 0]);
        state.log_lines_lost = 7;
        state.cores[0].groups.shards_failed = 3;
        state.stores[0].damage_found = 1;
        state.stores[0].weak_losses = 2;
        let said = notices(&state);
        for (notice, word) in said
            .iter()
            .zip(["damaged", "flush.ms", "__offsets", "7 lines"])
        {
            assert!(notice.contains(word), "{notice}");
        }
        assert_eq!(said.len(), 4);
        assert!(readiness(&state, 2000).is_good);
    }
}
