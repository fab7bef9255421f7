//! The OpenAPI document as one page that loads nothing.

use askama::Template;
use serde_json::Value;

#[derive(Template)]
#[template(path = "docs.html")]
pub struct Page<'a> {
    title: &'a str,
    version: &'a str,
    style: &'a str,
    introduction: Vec<Vec<Piece<'a>>>,
    groups: Vec<Group<'a>>,
    schemas: Vec<Schema<'a>>,
}

/// A part of a sentence; what stands between backticks is code.
struct Piece<'a> {
    text: &'a str,
    code: bool,
}

struct Group<'a> {
    name: &'a str,
    description: &'a str,
    operations: Vec<Operation<'a>>,
}

struct Operation<'a> {
    id: &'a str,
    method: String,
    path: &'a str,
    summary: &'a str,
    description: Vec<Vec<Piece<'a>>>,
    parameters: Vec<Parameter<'a>>,
    body: Option<Body<'a>>,
    responses: Vec<Response<'a>>,
}

struct Parameter<'a> {
    name: &'a str,
    place: &'a str,
    required: bool,
    kind: String,
    description: Vec<Piece<'a>>,
}

struct Body<'a> {
    schema: Option<&'a str>,
    example: Option<String>,
}

struct Response<'a> {
    status: &'a str,
    description: Vec<Piece<'a>>,
    schema: Option<&'a str>,
    example: Option<String>,
}

struct Schema<'a> {
    name: &'a str,
    description: Vec<Piece<'a>>,
    fields: Vec<Field<'a>>,
    example: Option<String>,
}

struct Field<'a> {
    name: &'a str,
    kind: String,
    description: Vec<Piece<'a>>,
}

impl<'a> Page<'a> {
    pub fn new(document: &'a Value, style: &'a str) -> Page<'a> {
        let schemas = &document["components"]["schemas"];
        let groups = document["tags"].as_array().into_iter().flatten().map(|tag| {
            let name = text(&tag["name"]);
            let operations = each(&document["paths"]).flat_map(|(path, item)| {
                each(item).map(move |(method, operation)| (path, method, operation))
            });
            let tagged = operations.filter(|(.., operation)| operation["tags"][0] == name);
            Group {
                name,
                description: text(&tag["description"]),
                operations: tagged
                    .map(|(path, method, value)| operation(path, method, value, schemas))
                    .collect(),
            }
        });
        Page {
            title: text(&document["info"]["title"]),
            version: text(&document["info"]["version"]),
            style,
            introduction: paragraphs(text(&document["info"]["description"])),
            groups: groups.collect(),
            schemas: each(schemas).map(|(name, value)| schema(name, value)).collect(),
        }
    }
}

fn operation<'a>(path: &'a str, method: &'a str, value: &'a Value, schemas: &'a Value) -> Operation<'a> {
    let body = &value["requestBody"]["content"]["application/json"]["schema"];
    Operation {
        id: text(&value["operationId"]),
        method: method.to_uppercase(),
        path,
        summary: text(&value["summary"]),
        description: paragraphs(text(&value["description"])),
        parameters: value["parameters"].as_array().into_iter().flatten().map(parameter).collect(),
        body: body.is_object().then(|| Body { schema: named(body), example: example(body, schemas) }),
        responses: each(&value["responses"])
            .map(|(status, value)| response(status, value, schemas))
            .collect(),
    }
}

fn parameter(value: &Value) -> Parameter<'_> {
    Parameter {
        name: text(&value["name"]),
        place: text(&value["in"]),
        required: value["required"] == true,
        kind: kind(&value["schema"]),
        description: pieces(text(&value["description"])),
    }
}

fn response<'a>(status: &'a str, value: &'a Value, schemas: &'a Value) -> Response<'a> {
    let content = each(&value["content"]).next();
    let schema = content.map(|(_, content)| &content["schema"]);
    let refused = status.starts_with(['4', '5']);
    let own = content.and_then(|(_, content)| content["example"].as_str()).map(str::to_owned);
    Response {
        status,
        description: pieces(text(&value["description"])),
        schema: schema.and_then(named),
        // One problem looks like the other.
        example: own.or_else(|| schema.filter(|_| !refused).and_then(|schema| example(schema, schemas))),
    }
}

fn schema<'a>(name: &'a str, value: &'a Value) -> Schema<'a> {
    let parts: Vec<&Value> = match value["allOf"].as_array() {
        Some(parts) => parts.iter().collect(),
        None => vec![value],
    };
    let fields = parts.into_iter().flat_map(|part| each(&part["properties"])).map(|(name, field)| Field {
        name,
        kind: kind(field),
        description: pieces(text(&field["description"])),
    });
    Schema {
        name,
        description: pieces(text(&value["description"])),
        fields: fields.collect(),
        example: example(value, &Value::Null),
    }
}

/// What a schema is, in a word or two.
fn kind(schema: &Value) -> String {
    if let Some(name) = named(schema) {
        return name.to_owned();
    }
    let choices = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
    if let Some(choices) = choices {
        let kinds: Vec<String> = choices.iter().map(kind).collect();
        return kinds.join(" or ");
    }
    let kind_or_kinds = &schema["type"];
    let kinds = match kind_or_kinds.as_array() {
        Some(kinds) => kinds.iter().map(text).collect(),
        None => vec![text(kind_or_kinds)],
    };
    let kinds: Vec<String> = kinds
        .into_iter()
        .map(
            |one| {
                if one == "array" { format!("array of {}", kind(&schema["items"])) } else { one.to_owned() }
            },
        )
        .collect();
    let words = kinds.join(" or ");
    match schema["enum"].as_array() {
        Some(values) => values.iter().map(Value::to_string).collect::<Vec<_>>().join(", "),
        None if words.is_empty() => "anything".to_owned(),
        None => words,
    }
}

fn named(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

fn example(schema: &Value, schemas: &Value) -> Option<String> {
    let own = |schema: &Value| schema["examples"].get(0).or(schema.get("example")).cloned();
    let found = own(schema).or_else(|| own(&schemas[named(schema)?]));
    found.map(|example| format!("{example:#}"))
}

fn each(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn paragraphs(text: &str) -> Vec<Vec<Piece<'_>>> {
    text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()).map(pieces).collect()
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let parts = text.split('`').enumerate();
    parts.map(|(at, text)| Piece { text, code: at % 2 == 1 }).filter(|piece| !piece.text.is_empty()).collect()
}
