//! D-Bus values as JSON, so that a unit's properties can be recorded and replayed.

use serde_json::Value as Json;
use zbus::Variant;

/// Numbers stay numbers, structures and arrays become arrays, dictionaries objects with text keys.
pub fn from(value: &Variant<'_>) -> Json {
    match value {
        Variant::U8(number) => (*number).into(),
        Variant::Bool(flag) => (*flag).into(),
        Variant::I16(number) => (*number).into(),
        Variant::U16(number) => (*number).into(),
        Variant::I32(number) => (*number).into(),
        Variant::U32(number) => (*number).into(),
        Variant::I64(number) => (*number).into(),
        Variant::U64(number) => (*number).into(),
        Variant::F64(number) => (*number).into(),
        Variant::Str(text) => text.as_str().into(),
        Variant::Signature(signature) => signature.to_string().into(),
        Variant::ObjectPath(path) => path.as_str().into(),
        Variant::Variant(inner) => from(inner),
        Variant::Array(array) => array.iter().map(from).collect::<Vec<_>>().into(),
        Variant::Structure(structure) => structure.fields().iter().map(from).collect::<Vec<_>>().into(),
        Variant::Dict(dict) => {
            let entry = |(key, value): (&Variant<'_>, &Variant<'_>)| {
                let key = from(key);
                (key.as_str().map_or_else(|| key.to_string(), str::to_owned), from(value))
            };
            Json::Object(dict.iter().map(entry).collect())
        }
        // A file descriptor means nothing outside this process.
        Variant::Fd(_) => Json::Null,
    }
}
