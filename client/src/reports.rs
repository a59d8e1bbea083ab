//! Reporting how far a named reader has come.
//!
//! Owns: the ReportPositions exchange, which the admin and the consumer share. The broker that answers forwards to
//! the cores that own the partitions.

use corelane_protocol::request::{PositionEntry, ReportPositionsRequest};
use corelane_protocol::{
    ApiKey, Offset, PartitionIndex, Request, Response, TopicId, TopicPartition,
};

use crate::cluster::{Cluster, Repeat};
use crate::connection::unexpected;
use crate::error::{Error, Result};

/// Entries of one request, far below what a broker refuses.
const ENTRIES_MAX: usize = 4 * 1024;

/// One partition, by its topic's name and identity, and the offset of the next record that the reader wants.
#[derive(Debug, Clone)]
pub(crate) struct Position<'a> {
    pub(crate) topic: &'a str,
    pub(crate) id: TopicId,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
}

/// Reports positions. Repeated, within the request timeout, while one is refused with a retriable error.
pub(crate) async fn report(
    cluster: &Cluster,
    reader: &str,
    positions: &[Position<'_>],
) -> Result<()> {
    for part in positions.chunks(ENTRIES_MAX) {
        report_part(cluster, reader, part).await?;
    }
    Ok(())
}

async fn report_part(cluster: &Cluster, reader: &str, positions: &[Position<'_>]) -> Result<()> {
    let entries = positions.iter().map(|position| PositionEntry {
        partition: TopicPartition::new(position.id, PartitionIndex::new(position.partition)),
        position: Offset::new(position.offset),
    });
    let request = Request::ReportPositions(ReportPositionsRequest {
        reader: reader.to_owned(),
        entries: entries.collect(),
    });
    let call = cluster.call(&request, Repeat::Safe, |frame, address| {
        let context = format!("report positions of reader {reader}");
        let response = frame.decode(address)?;
        let response = response.map_err(|error| Error::refused(&context, error))?;
        let Response::ReportPositions(response) = response else {
            return Err(unexpected(address, ApiKey::ReportPositions));
        };
        if response.entries.len() != positions.len() {
            return Err(unexpected(address, ApiKey::ReportPositions));
        }
        for (position, entry) in positions.iter().zip(response.entries) {
            if let Err(error) = entry.result {
                let (topic, partition) = (position.topic, position.partition);
                return Err(Error::refused(
                    format!("{context} in {topic}-{partition}"),
                    error,
                ));
            }
        }
        Ok(())
    });
    call.await
}
