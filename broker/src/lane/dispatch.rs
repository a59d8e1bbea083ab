//! Decodes a frame and calls the stage of its request.

use corelane_protocol::frame::RequestHeader;
use corelane_protocol::{ApiError, ApiKey, ErrorCode, Request};
use corelane_storage::disk::Disk;

use super::groups::GroupQuestion;
use super::meters::Stage;
use super::parked::{ClientRequest, Origin};
use super::reply_limits::is_overview;
use super::slab::Key;
use super::{Lane, Now};
use crate::config::ENTRIES_PER_REQUEST_MAX;

impl<D: Disk> Lane<D> {
    /// Takes up a request: from here on it is in flight until it is answered, once.
    pub(super) fn dispatch(&mut self, now: Now, key: Key, header: &RequestHeader, frame: &[u8]) {
        let client = ClientRequest {
            connection: key,
            api_key: header.api_key,
            api_version: header.api_version,
            correlation_id: header.correlation_id,
            frame_bytes: frame.len() as u64,
            no_forward: header.flags.no_forward(),
            taken_us: now.monotonic_us,
        };
        let connection = self
            .connections
            .get_mut(key)
            .expect("frames come from open connections");
        connection.frame_debt.paid();
        connection.requests += 1;
        connection.overviews += u32::from(is_overview(header.api_key));
        connection.in_flight_bytes += client.frame_bytes;
        self.in_flight_bytes += client.frame_bytes;
        let queued_us = connection.queued_us.take().unwrap_or(now.monotonic_us);
        match ApiKey::from_u16(header.api_key) {
            Some(ApiKey::Produce) => self.meters.stage_done(Stage::ProduceQueue, queued_us),
            Some(ApiKey::Fetch) => self.meters.stage_done(Stage::FetchQueue, queued_us),
            _ => {}
        }

        let body = &frame[RequestHeader::LEN..];
        let request = match Request::decode(header.api_key, header.api_version, body) {
            Ok(request) => request,
            Err(error) => return self.answer_error(client, &error.into()),
        };
        if self.shutdown.is_some() && !matches!(request, Request::Produce(_)) {
            return self.answer_error(client, &shutting_down());
        }
        if let Err(error) = check_entries(&request) {
            return self.answer_error(client, &error);
        }
        match request {
            Request::Produce(request) => self.produce(now, Origin::Client(client), &request),
            Request::Fetch(request) => self.fetch(now, client, request),
            Request::ListOffsets(request) => self.list_offsets(client, &request),
            Request::DeleteRecords(request) => self.delete_records(client, &request),
            Request::ReportPositions(request) => self.report_positions(client, &request),
            Request::GroupHeartbeat(request) => {
                self.ask_group(now, client, GroupQuestion::Heartbeat(request));
            }
            Request::LeaveGroup(request) => {
                self.ask_group(now, client, GroupQuestion::Leave(request));
            }
            Request::CommitOffsets(request) => {
                self.ask_group(now, client, GroupQuestion::Commit(request));
            }
            Request::FetchOffsets(request) => {
                self.ask_group(now, client, GroupQuestion::Offsets(request));
            }
            Request::DescribeGroup(request) => {
                self.ask_group(now, client, GroupQuestion::Describe(request));
            }
            Request::DeleteGroup(request) => {
                self.ask_group(now, client, GroupQuestion::Delete(request));
            }
            Request::ListGroups(_) => self.list_groups(client),
            Request::InitProducerId(_) => self.init_producer_id(client),
            Request::Metadata(request) => self.metadata(client, request),
            Request::ApiVersions(request) => self.api_versions(client, &request),
            Request::CreateTopics(request) => self.create_topics(client, request),
            Request::DeleteTopics(request) => self.delete_topics(client, request),
            Request::DescribeTopics(request) => self.describe_topics(client, request),
            Request::AlterTopicConfigs(request) => self.alter_topics(client, request),
            Request::CreatePartitions(request) => self.create_partitions(client, request),
        }
    }
}

/// A request has a bounded number of entries: each is answered with more bytes than it has.
fn check_entries(request: &Request<'_>) -> Result<(), ApiError> {
    let count = match request {
        Request::Produce(request) => request.entries.len(),
        Request::Fetch(request) => request.entries.len(),
        Request::ListOffsets(request) => request.entries.len(),
        Request::DeleteRecords(request) => request.entries.len(),
        Request::ReportPositions(request) => request.entries.len(),
        Request::CommitOffsets(request) => request.entries.len(),
        Request::FetchOffsets(request) => request.partitions.as_ref().map_or(0, Vec::len),
        _ => return Ok(()),
    };
    if count <= ENTRIES_PER_REQUEST_MAX {
        return Ok(());
    }
    let message =
        format!("{count} entries in one request, at most {ENTRIES_PER_REQUEST_MAX} may be");
    Err(ApiError::new(ErrorCode::InvalidRequest, message))
}

/// Why a broker that is about to stop takes no requests.
pub(super) fn shutting_down() -> ApiError {
    ErrorCode::ShuttingDown.into()
}
