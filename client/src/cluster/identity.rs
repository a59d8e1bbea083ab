//! Asking who an idempotent producer is.

use corelane_protocol::request::InitProducerIdRequest;
use corelane_protocol::response::ProducerIdentity;
use corelane_protocol::{ApiKey, ProducerEpoch, ProducerId, Request, Response, versions};

use super::{Cluster, Repeat};
use crate::connection::unexpected;
use crate::error::{Error, Result};

impl Cluster {
    /// An identity that no producer has had before.
    ///
    /// # Errors
    /// `InvalidArgument` if the broker is too old to give any; `Refused`; connection errors after the
    /// request timeout.
    pub(crate) async fn producer_identity(&self) -> Result<ProducerIdentity> {
        let connection = self.control().await?;
        let greeting = connection.greeting();
        let key = ApiKey::InitProducerId;
        let spoken = greeting.apis.iter().find(|api| api.api_key == key.as_u16());
        let is_known = spoken
            .is_some_and(|api| (api.version_min..=api.version_max).contains(versions(key).end()));
        if !is_known {
            return Err(Error::invalid(format!(
                "the broker ({}) knows no idempotent producers; update it, or build the producer with idempotent(false)",
                greeting.broker_version
            )));
        }
        // One that was given and did not arrive is given to nobody else: no harm is done.
        let request = Request::InitProducerId(InitProducerIdRequest);
        self.call(&request, Repeat::Safe, |frame, address| {
            let refused = |error| Error::refused("a producer id", error);
            let identity = match frame.decode(address)?.map_err(refused)? {
                Response::InitProducerId(response) => response.result.map_err(refused)?,
                _ => return Err(unexpected(address, key)),
            };
            let is_possible = identity.producer_id != ProducerId::NONE
                && identity.producer_epoch != ProducerEpoch::NONE
                && identity.window > 0;
            match is_possible {
                true => Ok(identity),
                false => Err(Error::Protocol {
                    address: address.into(),
                    reason: "the producer id, its epoch or its window is not possible".into(),
                }),
            }
        })
        .await
    }
}
