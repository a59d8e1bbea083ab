//! ListGroups: the groups of all cores.

use corelane_protocol::response::{ListGroupsResponse, ListedGroup};
use corelane_protocol::{ApiError, CoreId};
use corelane_storage::disk::Disk;

use crate::lane::mail::{ForwardedReply, ForwardedRequest};
use crate::lane::parked::{ClientRequest, ForwardKind, GatherKind, GatherWait};
use crate::lane::slab::Key;
use crate::lane::{Lane, Mail};

impl<D: Disk> Lane<D> {
    pub(in crate::lane) fn list_groups(&mut self, client: ClientRequest) {
        let cores: Vec<_> = self.topology.cores.iter().map(|at| at.core).collect();
        let gather = self.gathers.insert(GatherWait {
            client,
            remaining: u32::try_from(cores.len()).expect("cores are numbered by u16"),
            kind: GatherKind::Groups(Ok(ListGroupsResponse::default())),
        });
        for core in cores {
            if core == self.core {
                let groups = self.listed_groups();
                self.gathered_groups(gather, groups);
                continue;
            }
            let kind = ForwardKind::Gather {
                gather,
                entries: Vec::new(),
            };
            let request = ForwardedRequest::ListGroups;
            if let Err((_, error)) = self.forward(client.connection, core, request, kind) {
                self.gathered_groups(gather, Err(error));
            }
        }
    }

    /// Another core wants the groups of this one.
    pub(in crate::lane) fn forwarded_list_groups(&mut self, core: CoreId, token: u64) {
        let reply = ForwardedReply::Groups(self.listed_groups());
        self.post(core, Mail::ForwardReply { token, reply });
    }

    /// The groups of this core, unless some of them are not known yet.
    fn listed_groups(&self) -> Result<Vec<ListedGroup>, ApiError> {
        let mut groups = Vec::new();
        for shard in self.groups.shards.values() {
            groups.extend(shard.list()?);
        }
        Ok(groups)
    }

    /// One core has listed its groups.
    pub(in crate::lane) fn gathered_groups(
        &mut self,
        gather: Key,
        listed: Result<Vec<ListedGroup>, ApiError>,
    ) {
        let wait = self.gathers.get_mut(gather);
        let wait = wait.expect("it waits for this answer");
        let GatherKind::Groups(groups) = &mut wait.kind else {
            unreachable!("groups answer a request for groups");
        };
        match (&mut *groups, listed) {
            (Ok(response), Ok(listed)) => response.groups.extend(listed),
            (Ok(_), Err(error)) => *groups = Err(error),
            (Err(_), _) => {}
        }
        if wait.remaining == 1
            && let Ok(response) = groups
        {
            response.groups.sort_by(|a, b| a.group.cmp(&b.group));
        }
        self.gathered_one(gather);
    }
}
