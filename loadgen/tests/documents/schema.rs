//! JSON Schema (2020-12), as much of it as the project's schemas use. A keyword that is not known here is a fault of
//! the schema, so that no schema says more than is held. In one respect this is stricter than the standard: a member
//! that the schema of an object does not name is a fault here, so that a new key gets into its schema, while those who
//! read with the schema go on reading.

use serde_json::{Map, Value};

/// Keywords that only people read.
const WORDS: [&str; 6] = ["$schema", "$id", "$defs", "title", "description", "examples"];

/// Everything in which `value` is not what `schema` says, each with where it is.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    Check { root: schema, faults: &mut faults }.value(schema, value, "$");
    faults
}

struct Check<'a> {
    root: &'a Value,
    faults: &'a mut Vec<String>,
}

impl Check<'_> {
    fn value(&mut self, schema: &Value, value: &Value, at: &str) {
        let Some(keywords) = schema.as_object() else {
            return self.fault(at, format!("the schema is no object: {schema}"));
        };
        for (keyword, says) in keywords {
            self.keyword(keywords, keyword, says, value, at);
        }
        if keywords.contains_key("properties") && !keywords.contains_key("additionalProperties") {
            self.keyword(keywords, "additionalProperties", &Value::Bool(false), value, at);
        }
    }

    fn keyword(&mut self, all: &Map<String, Value>, keyword: &str, says: &Value, value: &Value, at: &str) {
        match keyword {
            _ if WORDS.contains(&keyword) => {}
            "$ref" => {
                let pointer = says.as_str().and_then(|text| text.strip_prefix('#')).unwrap_or("/nowhere");
                match self.root.pointer(pointer).cloned() {
                    Some(schema) => self.value(&schema, value, at),
                    None => self.fault(at, format!("{says} leads nowhere")),
                }
            }
            "type" => {
                let types = says.as_array().cloned().unwrap_or_else(|| vec![says.clone()]);
                if !types.iter().filter_map(Value::as_str).any(|name| is_of(name, value)) {
                    self.fault(at, format!("{value} is not of type {says}"));
                }
            }
            "enum" => {
                if !says.as_array().is_some_and(|values| values.contains(value)) {
                    self.fault(at, format!("{value} is none of {says}"));
                }
            }
            "minimum" if value.as_f64() < says.as_f64() && value.is_number() => {
                self.fault(at, format!("{value} is less than {says}"));
            }
            "minimum" => {}
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.value(says, item, &format!("{at}[{index}]"));
                }
            }
            "required" => {
                for name in says.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    if value.as_object().is_some_and(|object| !object.contains_key(name)) {
                        self.fault(at, format!("{name} is missing"));
                    }
                }
            }
            "properties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = says.get(name) {
                        self.value(schema, member, &format!("{at}.{name}"));
                    }
                }
            }
            "additionalProperties" => {
                let known = all.get("properties").and_then(Value::as_object);
                let others = value.as_object().into_iter().flatten();
                for (name, member) in others.filter(|(name, _)| !known.is_some_and(|known| known.contains_key(*name))) {
                    match says {
                        Value::Bool(true) => {}
                        Value::Bool(false) => self.fault(at, format!("{name} is in no schema")),
                        schema => self.value(schema, member, &format!("{at}.{name}")),
                    }
                }
            }
            unknown => self.fault(at, format!("{unknown} is a keyword that nothing checks")),
        }
    }

    fn fault(&mut self, at: &str, what: String) {
        self.faults.push(format!("{at}: {what}"));
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

/// Every name of a member that a schema knows.
pub fn names(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let members = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    found.extend(members.map(|(name, _)| name.clone()));
    match schema {
        Value::Object(object) => object.values().for_each(|value| found.extend(names(value))),
        Value::Array(array) => array.iter().for_each(|value| found.extend(names(value))),
        _ => {}
    }
    found.sort();
    found.dedup();
    found
}

/// What this file itself has to get right.
pub fn check() {
    let schema: Value = serde_json::json!({
        "type": "object",
        "required": ["a"],
        "properties": { "a": { "$ref": "#/$defs/count" }, "b": { "type": ["string", "null"] }, "c": { "enum": ["x"] } },
        "$defs": { "count": { "type": "integer", "minimum": 1 } },
    });
    let is_good = |value: Value| faults(&schema, &value).is_empty();
    assert!(is_good(serde_json::json!({ "a": 1, "b": null, "c": "x" })));
    for wrong in [
        serde_json::json!({}),
        serde_json::json!({ "a": 0 }),
        serde_json::json!({ "a": 1.5 }),
        serde_json::json!({ "a": 1, "b": 2 }),
        serde_json::json!({ "a": 1, "c": "y" }),
        serde_json::json!({ "a": 1, "d": 1 }),
        serde_json::json!([]),
    ] {
        assert!(!is_good(wrong.clone()), "{wrong}");
    }
    let list: Value = serde_json::json!({ "items": { "type": "string" } });
    assert_eq!(faults(&list, &serde_json::json!(["a", 1])), ["$[1]: 1 is not of type \"string\""]);
    assert_eq!(faults(&serde_json::json!({ "format": "x" }), &Value::Null).len(), 1);
    assert_eq!(names(&schema), ["a", "b", "c"]);
}
