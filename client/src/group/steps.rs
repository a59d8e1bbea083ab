//! The task that lets partitions go and takes them.
//!
//! Owns: the order of what happens to a partition that comes (find out where to begin, tell the listener, read) or goes
//! (wait for the program, commit, tell the listener). The listener is told one thing after the other. Never: decides
//! which partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use corelane_protocol::TopicPartition;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Group;
use super::commits::Commit;
use super::effect::{Loss, StepNumber};
use super::heart::HeartEvent;
use super::listener::{Change, Changed, Rebalance};
use super::opening;
use super::shared::{Holding, Mark, State, Taken};
use crate::error::Error;

/// A step to be done. What it means for handing out records has been done already.
#[derive(Debug)]
pub(super) enum Step {
    Revoke(StepNumber, BTreeSet<TopicPartition>),
    Take(Taken),
    /// With what was held.
    Lose(StepNumber, Vec<(TopicPartition, Holding)>, Loss),
}

/// The task. It ends with the member.
pub(super) async fn run(group: Arc<Group>, mut steps: mpsc::UnboundedReceiver<Step>) {
    // Where to begin is found out beside the steps: a partition that cannot be asked holds up no other.
    let mut openings = JoinSet::new();
    loop {
        let step = tokio::select! {
            biased;
            step = steps.recv() => step,
            () = group.shared.until(State::is_to_be_announced) => {
                announce(&group).await;
                continue;
            }
        };
        let Some(step) = step else {
            return;
        };
        match step {
            Step::Revoke(number, partitions) => {
                revoke(&group, &partitions).await;
                group.tell_heart(HeartEvent::StepDone(number));
            }
            Step::Take(taken) => {
                while openings.try_join_next().is_some() {}
                openings.spawn(opening::open(Arc::clone(&group), taken));
            }
            Step::Lose(number, lost, loss) => {
                lose(&group, lost, loss).await;
                group.tell_heart(HeartEvent::StepDone(number));
            }
        }
    }
}

async fn revoke(group: &Arc<Group>, partitions: &BTreeSet<TopicPartition>) {
    let shared = &group.shared;
    let in_hand = |state: &State| {
        let of_these = state
            .in_hand
            .filter(|partition| partitions.contains(partition));
        of_these.is_some_and(|partition| state.partitions.contains_key(&partition))
    };
    shared.until(|state| !in_hand(state)).await;
    if group.settings.auto_commit.is_some() {
        let commit = group.commit(Commit::ProcessedOf(partitions.clone()));
        let committed = shared.while_held(partitions, commit).await;
        if let Some(Err(error)) = committed {
            group.commit_failed(error);
        }
    }
    let changed = shared.update(|state| {
        let mut announced = Vec::new();
        for (partition, holding) in &mut state.partitions {
            if partitions.contains(partition) && holding.is_announced {
                holding.is_announced = false;
                announced.push(changed(*partition, holding, holding.processed));
            }
        }
        announced
    });
    tell(group, Change::Revoked, changed).await;
    shared.update(|state| drop(state.remove(partitions)));
}

async fn lose(group: &Arc<Group>, lost: Vec<(TopicPartition, Holding)>, loss: Loss) {
    let announced = lost.iter().filter(|(_, holding)| holding.is_announced);
    let changed = announced
        .map(|(partition, holding)| changed(*partition, holding, holding.processed))
        .collect();
    tell(group, Change::Lost(loss), changed).await;
}

/// Tells the listener of partitions that can be read, and has them read.
async fn announce(group: &Arc<Group>) {
    let changed = group.shared.update(|state| {
        let mut announced = Vec::new();
        for (partition, holding) in &mut state.partitions {
            if holding.is_to_be_announced() {
                holding.is_announced = true;
                announced.push(changed(*partition, holding, holding.position));
            }
        }
        announced
    });
    tell(group, Change::Assigned, changed).await;
    group.shared.update(State::begin);
}

fn changed(partition: TopicPartition, holding: &Holding, mark: Option<Mark>) -> Changed {
    (partition, holding.number, Arc::clone(&holding.name), mark)
}

async fn tell(group: &Arc<Group>, change: Change, changed: Vec<Changed>) {
    if changed.is_empty() {
        return;
    }
    let names: Vec<String> = changed
        .iter()
        .map(|(partition, _, name, _)| format!("{name}-{}", partition.partition))
        .collect();
    tracing::info!(group = %group.name, ?change, partitions = ?names, "partitions changed hands");
    let Some(listener) = &group.settings.listener else {
        return;
    };
    let about = Rebalance::new(Arc::clone(group), changed);
    if let Err(error) = listener.tell(change, about).await {
        let error = Error::ListenerPanicked {
            group: group.name.clone(),
            reason: error.to_string(),
        };
        group.shared.update(|state| state.errors.push_back(error));
    }
}
