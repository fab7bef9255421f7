//! Ids as strings in what `--json` prints: a 64-bit id is rounded by readers that keep numbers as doubles (jq 1.6).

use serde_json::Value;

/// Lists whose numbers are ids.
const LISTS: [&str; 3] = ["nodes", "deployments", "ids"];
/// Fields that hold an id under the name of what it belongs to.
const FIELDS: [&str; 4] = ["id", "node", "deployment", "request"];

/// Turns every number that is an id ([`FIELDS`], `*_id`, a list of ids) into a string.
pub fn as_strings(body: &mut Value) {
    match body {
        Value::Object(entries) => {
            for (name, value) in entries.iter_mut() {
                let name = name.as_str();
                match value {
                    Value::Number(number) if FIELDS.contains(&name) || name.ends_with("_id") => {
                        *value = Value::String(number.to_string());
                    }
                    Value::Array(items) if LISTS.contains(&name) || name.ends_with("_ids") => {
                        items.iter_mut().for_each(number_as_string);
                        items.iter_mut().for_each(as_strings);
                    }
                    Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Array(_)
                    | Value::Object(_) => as_strings(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(as_strings),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn number_as_string(value: &mut Value) {
    if let Value::Number(number) = value {
        *value = Value::String(number.to_string());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_become_strings_and_counts_stay_numbers() {
        let mut body = json!({"total_results": 2, "deployments": [611_298_765_432_109_056_u64], "items": [
            {"id": 1, "node_id": 610_809_900_976_570_889_u64, "size": 7, "author_id": null,
             "result": {"after": {"main_pid": 4711, "invocation_id": "0d1c"}}}]});
        as_strings(&mut body);
        assert_eq!(
            body,
            json!({"total_results": 2, "deployments": ["611298765432109056"], "items": [
                {"id": "1", "node_id": "610809900976570889", "size": 7, "author_id": null,
                 "result": {"after": {"main_pid": 4711, "invocation_id": "0d1c"}}}]})
        );
    }
}
