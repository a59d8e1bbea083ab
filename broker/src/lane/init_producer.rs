//! InitProducerId: numbers for idempotent producers, each given out once in the life of the data directory.
//!
//! A core has the controller reserve a block of them, which lies in the metadata log before the first of them is given
//! out. What is left of a block at a restart is never used.

use std::ops::Range;

use corelane_protocol::response::{InitProducerIdResponse, ProducerIdentity, Response};
use corelane_protocol::{ApiError, ProducerEpoch, ProducerId};
use corelane_storage::disk::Disk;
use corelane_storage::planted;
use corelane_storage::producers::PRODUCER_WINDOW;

use super::parked::ClientRequest;
use super::{Lane, Mail, Topology};
use crate::controller::{Command, CommandReply};
use crate::metadata::PRODUCER_ID_BLOCK;

/// The name under which a core asks the controller for a block.
const RESERVATION_TOKEN: u64 = u64::MAX - 1;

/// The numbers that one core may give out.
#[derive(Default)]
pub(super) struct ProducerIds {
    block: Range<u64>,
    /// Who waits for the next block; the controller was asked for it if anybody does.
    waiting: Vec<ClientRequest>,
}

impl<D: Disk> Lane<D> {
    pub(super) fn init_producer_id(&mut self, client: ClientRequest) {
        if let Some(id) = self.producer_ids.block.next() {
            return self.answer_producer_id(client, Ok(id));
        }
        self.producer_ids.waiting.push(client);
        if self.producer_ids.waiting.len() > 1 {
            return;
        }
        let (token, command) = (RESERVATION_TOKEN, Command::ReserveProducerIds);
        if self.core == Topology::CONTROLLER {
            self.take_command(self.core, token, command);
        } else {
            self.post(Topology::CONTROLLER, Mail::Command { token, command });
        }
    }

    /// Whether an answer of the controller is to this module, which then has it.
    pub(super) fn producer_ids_reserved(
        &mut self,
        token: u64,
        reply: &Result<CommandReply, ApiError>,
    ) -> bool {
        if token != RESERVATION_TOKEN {
            return false;
        }
        let waiting = std::mem::take(&mut self.producer_ids.waiting);
        if let Err(error) = reply {
            for client in waiting {
                self.answer_producer_id(client, Err(error.clone()));
            }
            return true;
        }
        // The image is as this command has left it: the next one begins once all cores have followed, and its records
        // come after this answer.
        let end = match planted!(ProducerIdsReused) {
            true => PRODUCER_ID_BLOCK,
            false => self.image.producer_ids_end(),
        };
        self.producer_ids.block = end - PRODUCER_ID_BLOCK..end;
        for client in waiting {
            self.init_producer_id(client);
        }
        true
    }

    fn answer_producer_id(&mut self, client: ClientRequest, id: Result<u64, ApiError>) {
        let result = id.map(|id| ProducerIdentity {
            producer_id: ProducerId::new(id),
            producer_epoch: ProducerEpoch::new(0),
            window: PRODUCER_WINDOW,
        });
        let response = Response::InitProducerId(InitProducerIdResponse { result });
        self.answer(client, &response);
    }
}
