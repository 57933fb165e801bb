//! The instance that lends itself to a verification: looked at before anything is made for it.

use super::subject::Subject;
use super::{Job, LENT};
use crate::acs::Error;
use crate::api::ecs::{self, GroupFilter, Instance};
use crate::ram;
use crate::report::ErrorReport;

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lent {
    pub id: String,
    pub zone_id: String,
}

/// Looks at it. One that is protected by the same policy is refused: copies of its own kind have no place on it.
pub(super) async fn lent(job: &Job, subject: &Subject) -> Result<Lent, ErrorReport> {
    let failed = |error: Error| ErrorReport::from(&error);
    let id = &job.instance_id;
    let ids = [id.clone()];
    let seen = ecs::describe_instances(&job.client, &job.region_id, &ids, &[]).await.map_err(failed)?;
    let Some(instance) = seen.into_iter().next() else {
        let addition = ram::addition("ecs:DescribeInstances", &job.region_id, id);
        let why = format!("DescribeInstances does not show it in {}", job.region_id);
        return Err(unfit(id, why, format!("check id and region; if they are right, {addition}")));
    };
    let tags = subject.policy.iter().map(|policy| ("appsnap:policy".to_owned(), policy.clone()));
    let tags: Vec<_> = tags.collect();
    let filter = GroupFilter { instance_id: Some(id), tags: &tags, ..GroupFilter::default() };
    let own = match subject.instance_id == *id || tags.is_empty() {
        true => Vec::new(),
        false => ecs::describe_snapshot_groups(&job.client, &job.region_id, &filter).await.map_err(failed)?,
    };
    match against(&instance, subject, !own.is_empty()) {
        None => Ok(Lent { id: instance.instance_id, zone_id: instance.zone_id }),
        Some((why, cure)) => Err(unfit(id, why, cure)),
    }
}

fn against(instance: &Instance, subject: &Subject, protected: bool) -> Option<(String, String)> {
    let another = "name another instance: one that nothing depends on";
    let told = |why: &str, cure: &str| Some((why.to_owned(), cure.to_owned()));
    match () {
        _ if subject.instance_id == instance.instance_id => told("the group is of this instance", another),
        _ if protected => told("it is itself protected by the group's policy", another),
        _ if instance.os_type != "linux" => told("it does not run Linux", another),
        _ if instance.status != "Running" => {
            let why = format!("it is {}", instance.status);
            Some((why, "start it, and verify again".to_owned()))
        }
        _ if !instance.tags.iter().any(|tag| tag.key == LENT) => {
            let mark = format!(
                "if disks may be attached to it and databases started on it: aliyun ecs TagResources --RegionId {} \
                 --ResourceType instance --ResourceId.1 {} --Tag.1.Key {LENT} --Tag.1.Value allowed",
                instance.region_id, instance.instance_id
            );
            Some((format!("it does not have the tag {LENT}"), mark))
        }
        _ => None,
    }
}

fn unfit(id: &str, why: String, cure: String) -> ErrorReport {
    ErrorReport {
        code: "verify.instance".into(),
        message: format!("{id} cannot lend itself to a verification: {why}"),
        resource: Some(id.to_owned()),
        cure: Some(cure),
        ..ErrorReport::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ecs::Tag;

    #[test]
    fn an_instance_that_somebody_depends_on_is_refused() {
        let subject = Subject {
            group_id: "ssg-1".into(),
            instance_id: "i-source".into(),
            policy: None,
            level: Default::default(),
            members: Vec::new(),
            places: Vec::new(),
            marked: None,
            left_out: Vec::new(),
        };
        let good = Instance {
            instance_id: "i-lent".into(),
            status: "Running".into(),
            os_type: "linux".into(),
            tags: vec![Tag { key: LENT.into(), value: "allowed".into() }],
            ..Instance::default()
        };
        type Change = fn(&mut Instance);
        let table: [(Change, bool, &str); 6] = [
            (|_| {}, false, ""),
            (|_| {}, true, "protected"),
            (|one| one.instance_id = "i-source".into(), false, "of this instance"),
            (|one| one.os_type = "windows".into(), false, "Linux"),
            (|one| one.status = "Stopped".into(), false, "Stopped"),
            (|one| one.tags.clear(), false, "tag appsnap:verify"),
        ];
        for (change, protected, why) in table {
            let mut instance = good.clone();
            change(&mut instance);
            let told = against(&instance, &subject, protected);
            assert_eq!(told.is_none(), why.is_empty(), "{why}");
            assert!(told.is_none_or(|(told, _)| told.contains(why)), "{why}");
        }
    }
}
