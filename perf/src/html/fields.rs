//! Everything that a result has, by its names in JSON: what is added to a result is in its page too.

use serde_json::Value;

use super::number;
use super::page::Row;

/// What is written as JSON.
pub(super) fn to_json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("results and manifests have keys that are text")
}

/// Rows of names and values.
pub(super) fn pairs(fields: &[(String, String)]) -> Vec<Row> {
    let rows = fields.iter().map(|(key, value)| Row {
        cells: vec![key.clone(), value.clone()],
        ..Row::default()
    });
    rows.collect()
}

/// All values of a JSON object with their paths.
pub(super) fn flat(value: &Value) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    flatten("", value, &mut fields);
    fields
}

fn flatten(path: &str, value: &Value, fields: &mut Vec<(String, String)>) {
    let is_plain = |value: &Value| !value.is_object() && !value.is_array();
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(&path, value, fields);
            }
        }
        Value::Array(values) if !values.is_empty() && !values.iter().all(is_plain) => {
            for (index, value) in values.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), value, fields);
            }
        }
        Value::Array(values) if !values.is_empty() => {
            let values: Vec<_> = values.iter().map(plain).collect();
            fields.push((path.to_owned(), values.join("\n")));
        }
        _ => fields.push((path.to_owned(), plain(value))),
    }
}

/// A value that has no parts, for people.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => dash(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64() {
            Some(whole) => number::count(whole),
            None => number.as_f64().map_or_else(dash, number::fraction),
        },
        Value::Array(_) | Value::Object(_) => "none".to_owned(),
    }
}

/// What stands for a figure that is not there.
pub(super) fn dash() -> String {
    "–".to_owned()
}
