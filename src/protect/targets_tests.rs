use serde_json::{Value, json};

use super::*;
use crate::local::world::{Fault, Mishap, Settings};
use crate::protect::realm::{EXTERNAL_ID, REGIONS, ROLES, Realm};

const HANGZHOU: &str = REGIONS[0];
const SHANGHAI: &str = REGIONS[1];

fn request(targets: Value) -> Request {
    Request::parse(&json!({ "policy": "p", "targets": targets })).unwrap()
}

/// Ids of the units, each with its account and region where those are not the usual ones.
fn ids(resolved: &Resolved) -> Vec<String> {
    let one = |(place, one): &(Place, Surveyed)| match (place.account_id.as_str(), place.region_id.as_str()) {
        ("1", HANGZHOU) => one.instance_id.clone(),
        (account, region) => format!("{} {account} {region}", one.instance_id),
    };
    resolved.units.iter().map(one).collect()
}

/// What forbids to go on.
fn codes(one: &Surveyed) -> Vec<&str> {
    let blockers = one.findings.iter().filter(|finding| finding.severity == Severity::Blocker);
    blockers.map(|finding| finding.code.as_str()).collect()
}

async fn found(realm: &Realm, targets: Value) -> Result<Resolved, ErrorReport> {
    resolve(&[realm.place(1, HANGZHOU, None)], &request(targets), "r-1", false).await
}

/// Some instances with tags.
fn fleet(settings: Settings) -> Realm {
    let realm = Realm::new(settings);
    let table: [(&str, &[(&str, &str)]); 7] = [
        ("i-1", &[("backup", "nightly"), ("env", "prod")]),
        ("i-2", &[("backup", "weekly"), ("env", "prod")]),
        ("i-3", &[("backup", "nightly"), ("env", "test")]),
        ("i-4", &[("backup", "never"), ("env", "prod")]),
        ("i-5", &[("backup", "nightly"), ("env", "prod"), ("appsnap", "off")]),
        ("i-6", &[("env", "prod")]),
        ("i-7", &[]),
    ];
    table.iter().for_each(|(id, tags)| realm.add(id, "1", HANGZHOU, tags));
    realm
}

#[tokio::test(start_paused = true)]
async fn instances_are_found_by_tags_however_small_the_pages_are() {
    let table = [
        (json!({ "backup": ["nightly"] }), json!({}), vec!["i-1", "i-3", "i-5"]),
        (json!({ "backup": ["nightly", "weekly"] }), json!({}), vec!["i-1", "i-2", "i-3", "i-5"]),
        (json!({ "backup": ["nightly", "weekly"], "env": ["prod"] }), json!({}), vec!["i-1", "i-2", "i-5"]),
        (
            json!({ "backup": ["nightly", "weekly"], "env": ["prod", "x"] }),
            json!({}),
            vec!["i-1", "i-2", "i-5"],
        ),
        (
            json!({ "env": ["prod"] }),
            json!({ "appsnap": ["off"], "backup": ["never", "x"] }),
            vec!["i-1", "i-2", "i-6"],
        ),
    ];
    for page_limit in [1, 2, usize::MAX] {
        let realm = fleet(Settings { page_limit, ..Settings::default() });
        for (tags, exclude, expected) in &table {
            let resolved = found(&realm, json!({ "tags": tags, "excludeTags": exclude })).await.unwrap();
            assert_eq!(ids(&resolved), *expected, "{tags} but {exclude}, {page_limit} on a page");
            let one = &resolved.units[0].1;
            assert_eq!((one.disks.len(), codes(one)), (1, vec!["agent.offline"]));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_matched_twice_is_done_once() {
    let realm = fleet(Settings::default());
    // Named and tagged; and the same place by two scopes.
    let mut second = realm.place(1, HANGZHOU, None);
    second.external_id = Some("other".into());
    let places = [realm.place(1, HANGZHOU, None), second];
    let wanted = request(json!({ "instanceIds": ["i-7", "i-3"], "tags": { "backup": ["nightly"] } }));
    let resolved = resolve(&places, &wanted, "r-1", false).await.unwrap();
    assert_eq!(ids(&resolved), ["i-7", "i-3", "i-1", "i-5"]);
    assert!(resolved.units.iter().all(|(place, _)| place.external_id.is_none()), "the first scope has it");
}

#[tokio::test(start_paused = true)]
async fn who_shows_what_has_begun_has_it_before_who_does_not() {
    let realm = fleet(Settings::default());
    let seen = |shown: &[&str], gone: &[&str]| Seen {
        instances: shown
            .iter()
            .map(|id| ecs::Instance { instance_id: id.to_string(), ..Default::default() })
            .collect(),
        gone: gone.iter().map(ToString::to_string).collect(),
        ..Seen::default()
    };
    let place = |region: &str| realm.place(1, region, None);
    // The role of the first scope may see the record of i-2, not the instance.
    let mut known = [
        (place(HANGZHOU), seen(&["i-1"], &["i-2", "i-3"])),
        (place(HANGZHOU), seen(&["i-1", "i-2"], &["i-3"])),
        (place(SHANGHAI), seen(&[], &["i-3"])),
    ];
    once(&mut known);
    let left = known.each_ref().map(|(_, seen)| {
        let shown: Vec<_> = seen.instances.iter().map(|one| &*one.instance_id).collect();
        (shown.join(" "), seen.gone.join(" "))
    });
    let pair = |shown: &str, gone: &str| (shown.to_string(), gone.to_string());
    assert_eq!(left, [pair("i-1", "i-3"), pair("i-2", ""), pair("", "i-3")]);
}

#[tokio::test(start_paused = true)]
async fn several_accounts_and_regions_are_looked_into_each_with_its_role() {
    let realm = fleet(Settings::default());
    realm.add("i-8", "1", SHANGHAI, &[("backup", "weekly")]);
    realm.add("i-9", "2", HANGZHOU, &[("backup", "weekly")]);
    realm.add("i-10", "2", SHANGHAI, &[("backup", "weekly")]);
    let mut places: Vec<Place> = REGIONS.iter().map(|region| realm.place(1, region, None)).collect();
    places.push(realm.place(2, HANGZHOU, Some(EXTERNAL_ID)));
    let wanted = request(json!({ "tags": { "backup": ["weekly"] }, "instanceIds": ["i-9", "i-none"] }));
    let resolved = resolve(&places, &wanted, "r-1", false).await.unwrap();
    let all = ["i-2", "i-8 1 cn-shanghai", "i-9 2 cn-hangzhou", "i-none"];
    assert_eq!(ids(&resolved), all);
    let none = &resolved.units[3].1.findings[0];
    let where_asked = "cn-hangzhou of account 1, cn-shanghai of account 1, cn-hangzhou of account 2";
    assert_eq!((none.code.as_str(), none.severity), ("instance.unknown", Severity::Blocker));
    assert!(none.message.ends_with(where_asked), "{none:?}");
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_fails_is_told_and_hides_no_other() {
    let realm = fleet(Settings::default());
    realm.add("i-9", "2", HANGZHOU, &[("backup", "weekly")]);
    let places = [
        realm.place(2, HANGZHOU, Some("wrong")),
        realm.place(1, HANGZHOU, None),
        realm.place(1, "cn-nowhere", None),
    ];
    let wanted = request(json!({ "tags": { "backup": ["weekly"] }, "diskIds": ["d-ofi2"] }));
    let resolved = resolve(&places, &wanted, "r-1", false).await.unwrap();
    assert_eq!(ids(&resolved), ["i-2"]);
    let failed: Vec<_> =
        resolved.failed.iter().map(|(place, error)| (&*place.region_id, &*error.code)).collect();
    assert_eq!(failed, [(HANGZHOU, "NoPermission"), ("cn-nowhere", "InvalidRegionId.NotFound")]);
    let denied = &resolved.failed[0].1;
    assert_eq!((denied.action.as_deref(), denied.resource.as_deref()), (Some("AssumeRole"), Some(ROLES[1])));
    assert!(denied.cure.as_ref().unwrap().contains("trust policy"), "{denied:?}");
    // With no other, that nothing was found is not known.
    let none = request(json!({ "tags": { "backup": ["x"] } }));
    let resolved = resolve(&places[..1], &none, "r-1", false).await.unwrap();
    assert_eq!((resolved.units.len(), resolved.failed.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_matches_nothing_is_an_error_that_says_where_was_looked() {
    let realm = fleet(Settings::default());
    let places = [realm.place(1, HANGZHOU, None), realm.place(1, SHANGHAI, None)];
    let wanted = request(
        json!({ "tags": { "backup": ["weekly", "daily"], "env": ["prod"] }, "excludeTags": { "env": ["prod"] } }),
    );
    let error = resolve(&places, &wanted, "r-1", false).await.err().unwrap();
    let message = "no instance has the tags backup=weekly|daily, env=prod in cn-hangzhou of account 1, cn-shanghai of \
                   account 1, but 1 that excludeTags leaves out; a caller without permission gets an empty list too";
    assert_eq!((error.code.as_str(), error.message.as_str()), ("targets.none", message));
    assert!(error.cure.unwrap().contains("ecs:DescribeInstances"));
}

#[tokio::test(start_paused = true)]
async fn who_is_named_and_excluded_is_refused_by_name() {
    let realm = fleet(Settings::default());
    let resolved =
        found(&realm, json!({ "instanceIds": ["i-5", "i-1"], "excludeTags": { "appsnap": ["off"] } }));
    let resolved = resolved.await.unwrap();
    assert_eq!(codes(&resolved.units[0].1), ["agent.offline", "instance.excluded"]);
    assert_eq!(codes(&resolved.units[1].1), ["agent.offline"]);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_waited_for() {
    for action in
        ["DescribeInstances", "DescribeDisks", "DescribeCloudAssistantStatus", "DescribeInvocations"]
    {
        let limits = [(action.to_string(), 1)].into();
        let realm = fleet(Settings { limits, ..Settings::default() });
        // Somebody else has used it up.
        let _ = found(&realm, json!({ "tags": { "backup": ["weekly"] } })).await;
        let resolved = found(&realm, json!({ "tags": { "backup": ["weekly"] } })).await;
        let resolved = resolved.unwrap_or_else(|error| panic!("{action}: {error:?}"));
        assert_eq!((ids(&resolved), resolved.failed.len()), (vec!["i-2".to_string()], 0), "{action}");
        let waited = realm.clock.now().duration_since("2026-11-22T03:00:00Z".parse().unwrap());
        assert!((60..75).contains(&waited.as_secs()), "{action}: {waited}");
    }
    // A limit that stays is told.
    let fault = Fault {
        action: "DescribeInstances".into(),
        nth: None,
        what: Mishap::Code(400, "Throttling.User".into()),
    };
    let realm = fleet(Settings { faults: vec![fault], ..Settings::default() });
    let resolved = found(&realm, json!({ "instanceIds": ["i-1"] })).await.unwrap();
    assert_eq!(resolved.failed[0].1.code, "Throttling.User");
}

#[tokio::test(start_paused = true)]
async fn more_instances_than_a_run_takes_are_refused_before_anything_is_asked_about_them() {
    let realm = Realm::new(Settings::default());
    for n in 0..1000 {
        realm.add(
            &format!("i-{n}"),
            "1",
            HANGZHOU,
            &[("all", "y"), ("few", if n < 201 { "y" } else { "n" })],
        );
    }
    let error = found(&realm, json!({ "tags": { "few": ["y"] } })).await.err().unwrap();
    assert_eq!(error.code, "targets.too_many");
    assert!(error.message.starts_with("201 instances are meant, a run takes 200"), "{error:?}");
    assert_eq!((realm.calls("DescribeDisks"), realm.calls("DescribeCloudAssistantStatus")), (0, 0));
    // What the cloud does not show nobody can leave out on purpose.
    let wanted = json!({ "tags": { "all": ["y"] }, "excludeTags": { "few": ["n"] } });
    let resolved = found(&realm, wanted).await.unwrap();
    assert!(resolved.failed[0].1.message.starts_with("1000 instances or more in cn-hangzhou have all=y"));
}

/// As an earlier delivery of `r-1` does.
fn begin(realm: &Realm, id: &str) {
    let pairs = [
        ("RegionId", HANGZHOU),
        ("Type", "RunShellScript"),
        ("CommandContent", "true"),
        ("InstanceId.1", id),
        ("Tag.1.Key", "appsnap:run"),
        ("Tag.1.Value", "r-1"),
    ];
    let pairs = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let (answer, _) = realm.world.lock().unwrap().act(realm.clock.now(), ROLES[0], "RunCommand", pairs);
    answer.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_has_begun_is_settled_though_too_many_have_the_tags_by_now() {
    let realm = fleet(Settings::default());
    begin(&realm, "i-5");
    begin(&realm, "i-7");
    for (all, told) in
        [(0..210, "instances are meant, a run takes 200"), (210..1010, "or more in cn-hangzhou have")]
    {
        for n in all.clone() {
            realm.add(&format!("i-x{n}"), "1", HANGZHOU, &[("backup", "weekly")]);
        }
        for forbidden in [false, true] {
            let place = [realm.place(1, HANGZHOU, None)];
            let wanted = request(json!({ "tags": { "backup": ["weekly"] }, "instanceIds": ["i-none"] }));
            let resolved = resolve(&place, &wanted, "r-1", forbidden).await.unwrap();
            assert_eq!(ids(&resolved), ["i-5", "i-7"], "{all:?} {forbidden}");
            let error = &resolved.failed[0].1;
            assert_eq!((resolved.failed.len(), &*error.code), (1, "targets.too_many"));
            assert!(error.message.contains(told), "{error:?}");
            assert!(
                error
                    .message
                    .ends_with("only the 2 on which an earlier delivery of the event has begun were seen to")
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_delivery_has_begun_belongs_to_the_run_whatever_its_tags_are_today() {
    let realm = fleet(Settings::default());
    let wanted = || json!({ "tags": { "backup": ["weekly"] }, "excludeTags": { "appsnap": ["off"] } });
    let places = [realm.place(1, HANGZHOU, None), realm.place(1, SHANGHAI, None)];
    // Nothing may begin and nothing has: nothing else is asked.
    let none = resolve(&places, &request(wanted()), "r-1", true).await.unwrap();
    assert_eq!((none.units.len(), none.failed.len(), realm.calls("DescribeInstances")), (0, 0, 0));
    for id in ["i-5", "i-7"] {
        begin(&realm, id);
    }
    for forbidden in [false, true] {
        let resolved = resolve(&places, &request(wanted()), "r-1", forbidden).await.unwrap();
        assert_eq!(ids(&resolved), ["i-5", "i-7", "i-2"], "{forbidden}");
        assert_eq!(codes(&resolved.units[0].1), ["agent.offline"], "what has begun is not excluded any more");
    }
    let other = resolve(&places, &request(wanted()), "r-2", false).await.unwrap();
    assert_eq!(ids(&other), ["i-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_named_instance_that_is_released_since_belongs_to_the_place_where_it_has_begun() {
    let realm = fleet(Settings::default());
    begin(&realm, "i-5");
    realm.world.lock().unwrap().instance_mut("i-5").unwrap().account_id = "nobody".into();
    let places = [realm.place(1, SHANGHAI, None), realm.place(1, HANGZHOU, None)];
    let resolved = resolve(&places, &request(json!({ "instanceIds": ["i-5"] })), "r-1", false).await.unwrap();
    assert_eq!(ids(&resolved), ["i-5"]);
    assert_eq!(codes(&resolved.units[0].1), ["instance.unknown"]);
}
