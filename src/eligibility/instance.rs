//! Rules about the region, the instance and its operating system.

use super::facts::InstanceFacts;
use super::support::Support;
use super::{finding, matrix};
use crate::report::Finding;

pub(super) fn findings(instance: &InstanceFacts, support: &Support) -> Vec<Finding> {
    let id = instance.instance_id.as_str();
    let mut found = Vec::new();
    if !support.knows_region(&instance.region_id) {
        found.push(finding("region.unknown", &instance.region_id, ""));
    }
    match instance.status.as_str() {
        "Running" => {}
        "Stopped" => found.push(finding("instance.stopped", id, "")),
        "" => found.push(finding("instance.state", id, "its state is not told")),
        other => found.push(finding("instance.state", id, &format!("it is {other}"))),
    }
    found.extend(locks("instance.locked", id, &instance.locks));
    // In a stopped one nothing has to run.
    found.extend(os(instance, support).filter(|_| !instance.stopped()).into_iter().flatten());
    found
}

/// Findings about locks: those for money have a rule of their own.
pub(super) fn locks(code: &str, resource: &str, locks: &[String]) -> Option<Finding> {
    let told = locks.join(", ");
    match locks.iter().any(|lock| lock.contains("financial")) {
        _ if locks.is_empty() => None,
        true => Some(finding("account.arrears", resource, &format!("it is locked ({told})"))),
        false => Some(finding(code, resource, &told)),
    }
}

fn os(instance: &InstanceFacts, support: &Support) -> Option<Vec<Finding>> {
    let (id, name) = (instance.instance_id.as_str(), instance.os_name.as_str());
    let listed = support.lists(name);
    let named = || format!("{name:?}");
    match instance.os_type.as_str() {
        "windows" => {
            let version = !listed && !matrix::lists_windows(name);
            let version = version.then(|| finding("os.windows_version", id, &named()));
            Some([finding("os.windows", id, "")].into_iter().chain(version).collect())
        }
        "linux" if listed || matrix::lists_linux(name) => None,
        _ => Some(vec![finding("os.unsupported", id, &named())]),
    }
}
