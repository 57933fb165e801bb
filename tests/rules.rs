//! The rules that are seen from outside, against the local cloud over HTTPS: what the survey finds in each bad world, and
//! that the API's own refusal of a create there leads to a rule with its cure too.

use appsnap::acs::{Client, Credentials, Endpoints, Identities, Settings as Caller, Transport};
use appsnap::api::PRODUCTS;
use appsnap::api::ecs::{self, CreateSnapshotGroup};
use appsnap::clock::Clock;
use appsnap::eligibility::{Snapshots, Support, refused};
use appsnap::local::server::{Cloud, Server};
use appsnap::local::world::{Disk, Instance, Policy, Settings, World};
use appsnap::policy::Request;
use appsnap::protect::facts::count_snapshots;
use appsnap::protect::survey::Surveyed;
use appsnap::protect::targets::{Place, resolve};
use jiff::Timestamp;
use serde_json::json;

const REGION: &str = "cn-hangzhou";
const INSTANCE: &str = "i-bp1rules";
const KEY: (&str, &str) = ("LTAI5tRules", "rules-secret");

fn disk(number: usize) -> Disk {
    Disk {
        id: format!("d-bp1rules{number}"),
        account_id: "1".into(),
        region_id: REGION.into(),
        zone_id: format!("{REGION}-h"),
        instance_id: Some(INSTANCE.into()),
        category: "cloud_essd".into(),
        performance_level: "PL0".into(),
        size: 20,
        status: "In_use".into(),
        kind: "data".into(),
        ..Disk::default()
    }
}

/// A cloud in which nothing stands against a snapshot.
fn good() -> World {
    let mut world = World::new(Settings::default());
    world.add_region(REGION);
    world.add_user("1", "operator", KEY, Policy::full());
    world.add_instance(Instance {
        id: INSTANCE.into(),
        account_id: "1".into(),
        region_id: REGION.into(),
        zone_id: format!("{REGION}-h"),
        status: "Running".into(),
        os_type: "linux".into(),
        os_name: "Ubuntu  22.04 64 bit".into(),
        agent_alive: true,
        agent_version: "2.2.4.900".into(),
        last_heartbeat: "2026-11-22T02:59:00Z".parse().ok(),
        ..Instance::default()
    });
    world.add_disk(disk(1));
    world.add_disk(disk(2));
    world
}

struct Lab {
    _server: Server,
    client: Client,
}

impl Lab {
    async fn new(world: World) -> Self {
        let (effects, _) = tokio::sync::mpsc::unbounded_channel();
        let server = Server::on_loopback(Cloud::new(world, Clock::system(), effects)).await.unwrap();
        let ca = std::env::temp_dir().join(format!("appsnap-rules-{}.pem", server.address.port()));
        std::fs::write(&ca, &server.ca_pem).unwrap();
        let transport = Transport::https(Some(&ca)).unwrap();
        std::fs::remove_file(&ca).unwrap();
        let endpoint = format!("https://localhost:{}", server.address.port());
        let env = |name: &str| (name == "APPSNAP_ECS_ENDPOINT").then(|| endpoint.clone());
        let caller = Caller {
            transport,
            clock: Clock::system(),
            endpoints: Endpoints::from_env(&env, &PRODUCTS).unwrap(),
            region_id: REGION.into(),
            identities: std::sync::Arc::new(Identities::default()),
        };
        let keys = Credentials::new(Some(KEY.0.into()), Some(KEY.1.into()), None).unwrap();
        Self { _server: server, client: Client::new(caller, keys) }
    }

    async fn surveyed(&self) -> Surveyed {
        self.surveyed_with(&Support::default()).await
    }

    async fn surveyed_with(&self, support: &Support) -> Surveyed {
        let request = json!({ "policy": "p", "targets": { "instanceIds": [INSTANCE] } });
        let request = Request::parse(&request).unwrap();
        let place = Place {
            client: self.client.clone(),
            role_arn: None,
            external_id: None,
            account_id: "1".into(),
            region_id: REGION.into(),
            support: support.clone(),
            deadline: Timestamp::MAX,
        };
        let mut resolved = resolve(&[place], &request, "r-1", false).await.unwrap();
        resolved.units.remove(0).1
    }

    /// The rule that the API's refusal leads to; `None`: it takes the disks.
    async fn create(&self, surveyed: &Surveyed) -> Option<&'static str> {
        let disk_ids: Vec<String> = surveyed.disks.iter().map(|disk| disk.disk_id.clone()).collect();
        let wanted = CreateSnapshotGroup {
            region_id: REGION,
            instance_id: Some(INSTANCE),
            disk_ids: &disk_ids,
            name: "rules",
            description: "of a test",
            client_token: "t-1",
            tags: &[],
            resource_group_id: None,
        };
        let error = ecs::create_snapshot_group(&self.client, &wanted).await.err()?;
        Some(refused(&error.code).unwrap_or_else(|| panic!("no rule for {error}")).code)
    }
}

fn codes(surveyed: &Surveyed) -> Vec<&str> {
    surveyed.findings.iter().map(|finding| finding.code.as_str()).collect()
}

fn instance(world: &mut World) -> &mut Instance {
    world.instance_mut(INSTANCE).unwrap()
}

fn first(world: &mut World) -> &mut Disk {
    world.disk_mut("d-bp1rules1").unwrap()
}

fn windows(world: &mut World, name: &str) {
    instance(world).os_type = "windows".into();
    instance(world).os_name = name.into();
}

#[tokio::test]
async fn each_bad_world_is_found_by_the_survey_and_told_by_the_create() {
    type Row = (fn(&mut World), &'static [&'static str], Option<&'static str>);
    let table: &[Row] = &[
        (|_| (), &[], None),
        (|w| instance(w).status = "Starting".into(), &["instance.state"], Some("instance.state")),
        (|w| instance(w).status = "Stopped".into(), &["instance.stopped"], None),
        (|w| instance(w).locks = vec!["security".into()], &["instance.locked"], Some("instance.locked")),
        (|w| first(w).locks = vec!["financial".into()], &["account.arrears"], Some("account.arrears")),
        (|w| windows(w, "Windows Server  2019 Datacenter"), &["os.windows"], None),
        (|w| windows(w, "Windows Server  2008 R2"), &["os.windows", "os.windows_version"], None),
        (|w| instance(w).os_name = "Debian  12.5 64 bit".into(), &["os.unsupported"], None),
        (|w| instance(w).agent_alive = false, &["agent.offline"], None),
        (|w| instance(w).agent_version = "2.2.3.309".into(), &["agent.old"], None),
        (|w| first(w).category = "cloud_ssd".into(), &["disk.category"], Some("disk.category")),
        // The API knows no difference.
        (|w| first(w).category = "local_ssd_pro".into(), &["disk.local"], Some("disk.category")),
        (
            |w| first(w).category = "cloud_regional_disk_auto".into(),
            &["disk.regional"],
            Some("disk.regional"),
        ),
        (|w| first(w).status = "ReIniting".into(), &["disk.state"], Some("disk.state")),
        (|w| first(w).multi_attach = true, &["disk.multi_attach"], Some("disk.multi_attach")),
        (|w| first(w).zone_id = "cn-hangzhou-i".into(), &["disk.zone"], Some("disk.zone")),
        (|w| first(w).encrypted = true, &["disk.encrypted"], None),
        // What only the create shows.
        (
            |w| {
                first(w).encrypted = true;
                first(w).kms_key_id = "key-1".into();
                first(w).kms_refusal = "CMKNotEnabled".into();
            },
            &["disk.encrypted"],
            Some("disk.kms"),
        ),
        (|w| (3..=17).for_each(|number| w.add_disk(disk(number))), &["group.region"], Some("group.size")),
        (
            |w| {
                w.change(Settings {
                    account_status: Some("SnapshotServiceUnavailable".into()),
                    ..Settings::default()
                })
            },
            &[],
            Some("snapshot.service"),
        ),
        (
            |w| w.change(Settings { account_status: Some("NotEnoughBalance".into()), ..Settings::default() }),
            &[],
            Some("account.arrears"),
        ),
    ];
    for (row, (change, found, refusal)) in table.iter().enumerate() {
        let mut world = good();
        change(&mut world);
        let lab = Lab::new(world).await;
        let surveyed = lab.surveyed().await;
        assert_eq!(codes(&surveyed), *found, "row {row}");
        assert_eq!(lab.create(&surveyed).await, *refusal, "row {row}");
    }
}

#[tokio::test]
async fn what_a_disk_has_of_snapshots_is_counted_as_the_create_counts() {
    type Row = (usize, usize, &'static str, Snapshots, Option<&'static str>);
    let table: [Row; 4] = [
        (0, 0, "accomplished", Snapshots::Counted { under_way: 0, manual: 0 }, None),
        (255, 300, "accomplished", Snapshots::Counted { under_way: 0, manual: 255 }, None),
        (256, 0, "accomplished", Snapshots::Counted { under_way: 0, manual: 256 }, Some("disk.quota")),
        (4, 6, "progressing", Snapshots::Counted { under_way: 10, manual: 4 }, Some("disk.tasks")),
    ];
    for (manual, automatic, status, expected, refusal) in table {
        let mut world = good();
        let now: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
        world.add_snapshots(now, "d-bp1rules1", manual, false, status);
        world.add_snapshots(now, "d-bp1rules1", automatic, true, status);
        let lab = Lab::new(world).await;
        let mut surveyed = lab.surveyed().await;
        count_snapshots(&lab.client, REGION, &mut surveyed.disks).await;
        assert_eq!(surveyed.disks[0].snapshots, expected);
        assert_eq!(surveyed.disks[1].snapshots, Snapshots::Counted { under_way: 0, manual: 0 });
        assert_eq!(lab.create(&surveyed).await, refusal);
    }
}

#[tokio::test]
async fn what_the_operator_knows_better_counts() {
    let mut world = good();
    instance(&mut world).os_name = "Debian  12.5 64 bit".into();
    (3..=17).for_each(|number| world.add_disk(disk(number)));
    let lab = Lab::new(world).await;
    assert_eq!(codes(&lab.surveyed().await), ["os.unsupported", "group.region"]);
    let text = r#"{"systems": ["debian 12"], "groupLimits": {"cn-hangzhou": {"disks": 17, "tib": 32}}}"#;
    let surveyed = lab.surveyed_with(&Support::parse(text).unwrap()).await;
    assert_eq!(codes(&surveyed), [] as [&str; 0]);
    let fewer = Support::parse(&text.replace("17", "16")).unwrap();
    assert_eq!(codes(&lab.surveyed_with(&fewer).await), ["group.size"]);
}

#[test]
fn a_variable_that_cannot_be_read_is_told_by_name() {
    let env = [("APPSNAP_SUPPORT".to_owned(), r#"{"region": []}"#.to_owned())];
    let error = appsnap::handler::App::new(Clock::system(), env.into()).err().unwrap();
    assert!(error.starts_with("APPSNAP_SUPPORT: unknown field `region`"), "{error}");
}
