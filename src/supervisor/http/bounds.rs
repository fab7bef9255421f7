//! What the macros cannot say of parameters and fields in the OpenAPI document: exact maxima, patterns and choices, as the
//! endpoints check them.

use serde_json::{Value, json};

use crate::store::keys::Permission;

/// As `Runtime` is read.
const RUNTIME: &str = "^(iggy|connectors|connector:(sink|source):[a-z0-9_][a-z0-9_-]{0,63})$";
/// As `Action` is read; a configuration's id is one of ours.
const ACTION: &str = "^(start|stop|restart|reconfigure:[1-9][0-9]{0,18})$";
/// No control characters.
const PLAIN: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";
/// The same, and not blank.
const NAME: &str = r"^[^\x00-\x1f\x7f-\x9f]*[!-~][^\x00-\x1f\x7f-\x9f]*$";
/// Below 2^64, without noughts before it.
pub const ID_TEXT: &str =
    "^([1-9][0-9]{0,18}|1[0-7][0-9]{18}|18[0-3][0-9]{17}|184[0-3][0-9]{16}|1844[0-5][0-9]{15})$";

/// An id in a path or a query.
pub fn id() -> Value {
    json!({ "type": "integer", "format": "uint64", "minimum": 1, "maximum": u64::MAX })
}

/// Bounds all parameters of an operation.
pub fn parameter(parameter: &mut Value) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    let place = parameter["in"].as_str().unwrap_or_default().to_owned();
    let schema = &mut parameter["schema"];
    // One that is absent is absent, and never null.
    if let Some(kinds) = schema["type"].as_array() {
        let kinds: Vec<Value> = kinds.iter().filter(|kind| **kind != "null").cloned().collect();
        schema["type"] = if let [only] = kinds.as_slice() { only.clone() } else { Value::Array(kinds) };
    }
    match (name.as_str(), place.as_str()) {
        (name, "path" | "query") if name.ends_with("_id") => *schema = id(),
        ("last-event-id", _) => {
            *schema = json!({ "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX });
        }
        ("runtime", _) => schema["pattern"] = json!(RUNTIME),
        ("action", "path") => schema["pattern"] = json!(ACTION),
        ("from" | "to", "query") => schema["format"] = json!("date-time"),
        ("status", "query") => schema["enum"] = json!(["processing", "completed", "rejected"]),
        (_, "query") if schema["type"] == "string" && schema.get("format").is_none() => {
            schema["pattern"] = json!(PLAIN);
        }
        _ => {}
    }
}

/// Whether a body must be sent: no body is an empty object, which lacks every field that must be there.
pub fn needs_body(operation: &Value, schemas: &Value) -> bool {
    let reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str();
    let name = reference.and_then(|reference| reference.rsplit('/').next()).unwrap_or_default();
    schemas[name]["required"].as_array().is_some_and(|required| !required.is_empty())
}

/// Bounds the fields of what is sent, in all schemas of requests.
pub fn schemas(schemas: &mut Value) {
    for (name, schema) in schemas.as_object_mut().into_iter().flatten() {
        exact(schema);
        if name.starts_with("New") || name.starts_with("Changed") {
            let Some(fields) = schema["properties"].as_object_mut() else { continue };
            for (name, field) in fields {
                request_field(name, field);
            }
        }
    }
}

fn request_field(name: &str, field: &mut Value) {
    match name {
        "name" => field["pattern"] = json!(NAME),
        "plan" => field["enum"] = json!(["basic", "pro", "enterprise", null]),
        "redact_secrets" => field["enum"] = json!([true]),
        "permissions" => {
            let all: Vec<&str> = Permission::ALL.iter().map(|permission| permission.as_str()).collect();
            field["items"]["enum"] = json!(all);
        }
        _ => {}
    }
}

/// A number with a fraction cannot say where 64 bits end.
fn exact(schema: &mut Value) {
    if schema["format"] == "uint64" && schema.get("maximum").is_some() {
        schema["maximum"] = json!(u64::MAX);
    }
    match schema {
        Value::Object(fields) => fields.values_mut().for_each(exact),
        Value::Array(items) => items.iter_mut().for_each(exact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;
    use warden_protocol::{Action, Runtime};

    use super::*;
    use crate::http::json_types::Id;

    #[test]
    fn the_patterns_say_what_is_read() {
        let fits = |pattern: &str, text: &str| Regex::new(pattern).unwrap().is_match(text);
        for text in [
            "iggy",
            "connectors",
            "connector:sink:orders-pg_1",
            "connector:source:9",
            "connector:sink:-x",
            "connector:sink:",
            "connector:sinks:x",
            "connector:sink:X",
            "0",
            "",
        ] {
            assert_eq!(fits(RUNTIME, text), text.parse::<Runtime>().is_ok(), "{text:?}");
        }
        for text in
            ["start", "stop", "restart", "reconfigure:42", "reconfigure:", "reconfigure:-1", "deploy", ""]
        {
            assert_eq!(fits(ACTION, text), text.parse::<Action>().is_ok(), "{text:?}");
        }
        for text in
            ["1", "0", "007", "9999999999999999999", "18446744073709551616", "99999999999999999999", "x", ""]
        {
            assert_eq!(fits(ID_TEXT, text), text.parse::<Id>().is_ok(), "{text:?}");
        }
    }
}
