//! Asking for offsets.
//!
//! Owns: the ListOffsets exchange, which the admin and the consumer share. The broker that answers
//! metadata forwards to the cores that own the partitions, so one request serves them all.

use corelane_protocol::request::{ListOffsetsEntry, ListOffsetsRequest};
use corelane_protocol::response::ListedEntry;
use corelane_protocol::{ApiKey, Request, Response};

use crate::cluster::{Cluster, Repeat};
use crate::connection::unexpected;
use crate::error::{Error, Result};

/// Entries of one request, far below what a broker refuses.
const ENTRIES_MAX: usize = 4 * 1024;

/// Asks for offsets; the answers come in the order asked. A request is repeated, within the request
/// timeout, while an entry is refused with a retriable error.
pub(crate) async fn list(
    cluster: &Cluster,
    entries: &[ListOffsetsEntry],
) -> Result<Vec<ListedEntry>> {
    let mut answers = Vec::with_capacity(entries.len());
    for part in entries.chunks(ENTRIES_MAX) {
        answers.extend(list_part(cluster, part.to_vec()).await?);
    }
    Ok(answers)
}

async fn list_part(cluster: &Cluster, entries: Vec<ListOffsetsEntry>) -> Result<Vec<ListedEntry>> {
    let count = entries.len();
    let request = Request::ListOffsets(ListOffsetsRequest { entries });
    cluster
        .call(&request, Repeat::Safe, |frame, address| {
            let response = frame.decode(address)?;
            let response = response.map_err(|error| Error::refused("list offsets", error))?;
            let Response::ListOffsets(response) = response else {
                return Err(unexpected(address, ApiKey::ListOffsets));
            };
            if response.entries.len() != count {
                return Err(unexpected(address, ApiKey::ListOffsets));
            }
            let refused = response
                .entries
                .iter()
                .find_map(|entry| entry.result.as_ref().err());
            match refused.filter(|error| error.retriable()) {
                Some(error) => Err(Error::refused("list offsets", error.clone())),
                None => Ok(response.entries),
            }
        })
        .await
}
