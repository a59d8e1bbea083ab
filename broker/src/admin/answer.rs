//! Answers of the admin endpoint: their headers, and how they are handed over.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::health::Verdict;
use super::page;

pub(super) const JSON: &str = "application/json";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// An answer is handed over in pieces of so many bytes, as fast as the client takes them.
const PIECE_BYTES: usize = 64 * 1024;

/// What is said of health or readiness.
pub(super) fn judged(verdict: &Verdict) -> Response<Answer> {
    let status = if verdict.is_good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    answer(status, JSON, json(verdict), None)
}

/// Plain data as JSON.
pub(super) fn json(of: &impl Serialize) -> Bytes {
    let json = serde_json::to_vec(of).expect("plain data has a JSON form");
    json.into()
}

/// A part of the page, which may use nothing that is not from here.
pub(super) fn shown_part(part: page::Part) -> Response<Answer> {
    let mut response = answer(StatusCode::OK, part.content_type, part.text.into(), None);
    let headers = response.headers_mut();
    let policy = HeaderValue::from_static(page::POLICY);
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// An answer; a large one holds its permit until it has left.
pub(super) fn answer(
    status: StatusCode,
    content_type: &'static str,
    bytes: Bytes,
    permit: Option<OwnedSemaphorePermit>,
) -> Response<Answer> {
    let mut response = Response::new(Answer {
        rest: bytes,
        _permit: permit,
    });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Names that somebody chose are in some answers: none of them is ever taken for a script.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The body of an answer, and the right to have a large one on its way: given back when the last piece is taken.
pub(super) struct Answer {
    rest: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = (length > 0).then(|| Ok(Frame::data(self.rest.split_to(length))));
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
