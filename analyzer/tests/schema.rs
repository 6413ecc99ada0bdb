//! `schemas/report-v1.json` names what the code can emit.

use std::collections::BTreeSet;

use memleak_trace::{Domain, Effect, Op, StackEnd};
use serde_json::Value;

fn schema() -> Value {
    let text = include_str!("../../schemas/report-v1.json");
    serde_json::from_str(text).expect("the schema is JSON")
}

fn names(value: &Value) -> BTreeSet<&str> {
    value
        .as_array()
        .expect("an enum")
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

/// The operations, domains and stack ends of the schema are those of the code.
#[test]
fn enumerations_are_those_of_the_code() {
    let schema = schema();
    let stack = &schema["$defs"]["stack"]["properties"];
    let allocating =
        Op::all().filter(|op| matches!(op.effect(), Effect::Allocate | Effect::Outcome));
    assert_eq!(
        names(&stack["op"]["enum"]),
        allocating.map(Op::name).collect()
    );
    assert_eq!(
        names(&stack["domain"]["enum"]),
        Domain::ALL.map(Domain::name).into()
    );
    let mut ends: BTreeSet<&str> = StackEnd::ALL.map(StackEnd::name).into();
    ends.insert("missing");
    assert_eq!(names(&stack["end"]["enum"]), ends);
}

/// Strict everywhere: an object either lists its keys or says what its values are.
#[test]
fn objects_are_closed() {
    fn check(value: &Value, path: &str) {
        match value {
            Value::Object(map) => {
                if map.get("type").is_some_and(|kind| kind == "object") {
                    assert!(map.contains_key("additionalProperties"), "{path} is open");
                    assert!(map.contains_key("description"), "{path} has no description");
                }
                map.iter()
                    .for_each(|(key, value)| check(value, &format!("{path}/{key}")));
            }
            Value::Array(list) => list.iter().for_each(|value| check(value, path)),
            _ => {}
        }
    }
    check(&schema(), "");
}
