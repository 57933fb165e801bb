//! What the user writes: the request, parsed strictly and refused by field path.
//!
//! [`Request::parse`] lists everything that is wrong at once. A field that is unknown, or known but not
//! supported yet, is an error and never ignored: who asks for something must not believe to have it.

mod channel;
mod fields;
pub mod ids;
mod linux;
mod request;
mod schedule;
mod secretref;
mod sections;
mod snapshot;
mod targets;
mod verify;

pub use channel::{Channel, ChannelKind};
pub(crate) use fields::distance;
pub use fields::{Invalid, Problem};
pub use linux::{Endpoint, Engine, Linux, ThawOn};
pub use request::{Request, UNITS_AT_ONCE};
pub use schedule::{Forbidden, Schedule};
pub use secretref::{Env, SecretRef};
pub use snapshot::Snapshot;
pub use targets::{MAX_UNITS, Scope, Targets};
pub use verify::Verify;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Names that the parser looks at, and any others.
    fn name() -> impl Strategy<Value = String> {
        let known = [
            "policy",
            "targets",
            "instanceIds",
            "diskIds",
            "linux",
            "timeoutInSeconds",
            "endpoint",
            "caBundle",
            "snapshot",
            "name",
            "tags",
            "notify",
            "channel",
            "url",
            "on",
            "retention",
            "dryRun",
            "scope",
            "regionIds",
            "notDuring",
        ];
        prop_oneof![3 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(json!("i-1")),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((name(), inner), 0..6).prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_is_answered_in_one_line_and_nothing_panics(value in any_json()) {
            match Request::parse(&value) {
                Ok(Request { targets, .. }) => {
                    prop_assert!(!targets.instance_ids.is_empty() || !targets.tags.is_empty());
                }
                Err(invalid) => {
                    prop_assert!(!invalid.0.is_empty());
                    let message = invalid.to_string();
                    prop_assert!(!message.contains(char::is_control), "{message:?}");
                }
            }
        }

        #[test]
        fn a_good_request_with_one_field_spoilt_names_that_field(name in name(), value in any_json()) {
            let good = json!({ "policy": "p", "targets": { "instanceIds": ["i-1"] } });
            let mut spoilt = good.clone();
            spoilt[&name] = value;
            if let Err(invalid) = Request::parse(&spoilt) {
                // minimumLevel and the like are judged together; everything else stands under its own name.
                let first = &invalid.0[0].path;
                prop_assert!(first.starts_with(&name) || first.starts_with('"'), "{name:?}: {invalid}");
            }
        }
    }
}
