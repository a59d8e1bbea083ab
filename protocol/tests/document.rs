//! `docs/wire.md` and the code name the same requests and errors.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use corelane_protocol::{ApiKey, ErrorCode};

fn document() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/wire.md")).unwrap()
}

#[test]
fn every_error_code_is_in_the_table() {
    let document = document();
    for code in ErrorCode::ALL {
        let retriable = if code.retriable() { " yes" } else { "" };
        let row = format!("| {} | {code:?} |{retriable} |", code.as_u16());
        assert!(document.contains(&row), "{row}");
    }
}

#[test]
fn every_request_has_its_section() {
    let document = document();
    for key in ApiKey::ALL {
        let heading = format!("\n### {} {key}\n", key.as_u16());
        assert!(document.contains(&heading), "{heading}");
    }
}
