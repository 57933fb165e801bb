//! The seed world: beside one instance that is as it should be, one for each condition of the vendor's first page (2021) on
//! application-consistent snapshots that is not met, and for what the API's own pages add.
//!
//! What the API shows needs no guest. Where the condition is in the guest, there is a real one, with small disks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cloud::{LocalCloud, REGION, disk, instance, names, roles};
use super::guest::DiskSpec;
use super::host::Failure;
use super::store::Filesystem;
use super::world::{Disk, Instance, World};
use crate::ram::Names;

/// Every instance of the seed carries this tag, and no other does.
pub const TAG: (&str, &str) = ("appsnap-world", "seed");

/// A region that no page of the vendor's names for such snapshots.
pub const FAR: &str = "me-central-1";

/// An instance of the seed.
#[derive(Debug)]
pub struct Case {
    /// The last part of the instance's id, and its name.
    pub name: &'static str,
    /// What is the matter with it.
    pub what: &'static str,
    /// As the API shows it.
    change: fn(&mut Instance, &mut Vec<Disk>),
    /// A real guest, with this done in it (a script of sh); `None`: nothing has to be seen in it.
    guest: Option<&'static str>,
}

/// The conditions, in the page's order; the good one first.
pub const CASES: [Case; 22] = [
    Case { name: "good", what: "as it should be", change: |_, _| {}, guest: Some("") },
    Case {
        name: "region",
        what: "a region that the vendor does not list",
        change: |instance, disks| {
            instance.region_id = FAR.into();
            instance.zone_id = format!("{FAR}-a");
            for disk in disks {
                disk.region_id = FAR.into();
                disk.zone_id = format!("{FAR}-a");
            }
        },
        guest: Some(""),
    },
    Case {
        name: "oldos",
        what: "CentOS 6.10: older than what the vendor lists",
        change: |instance, _| instance.os_name = "CentOS  6.10 64 bit".into(),
        guest: Some("printf 'ID=centos\\nVERSION_ID=\"6\"\\n' >/etc/os-release"),
    },
    Case {
        name: "oldwindows",
        what: "Windows Server 2008 R2: the plugin is not documented for it",
        change: |instance, _| windows(instance, "Windows Server  2008 R2 Enterprise 64bit"),
        guest: None,
    },
    Case {
        name: "disk",
        what: "its data disk is an ultra disk, no ESSD",
        change: |_, disks| {
            disks[1].category = "cloud_efficiency".into();
            disks[1].performance_level.clear();
        },
        guest: Some(""),
    },
    Case {
        name: "local",
        what: "it has a local disk",
        change: |_, disks| disks[1].category = "local_ssd_pro".into(),
        guest: Some(""),
    },
    Case {
        name: "shared",
        what: "its data disk is attached to several instances: a shared file system",
        change: |_, disks| disks[1].multi_attach = true,
        guest: Some(""),
    },
    Case {
        name: "zones",
        what: "its disks are in two zones",
        change: |_, disks| disks[1].zone_id = format!("{REGION}-h"),
        guest: Some(""),
    },
    Case {
        name: "regional",
        what: "one of its disks is zone-redundant, the other not",
        change: |_, disks| {
            disks[1].category = "cloud_regional_disk_auto".into();
            disks[1].zone_id.clear();
        },
        guest: Some(""),
    },
    Case {
        name: "large",
        what: "its data disk is larger than a group can hold",
        change: |_, disks| disks[1].size = 257 << 10,
        guest: Some(""),
    },
    Case {
        name: "kms",
        what: "its data disk is encrypted, by a key that is off",
        change: |_, disks| {
            disks[1].encrypted = true;
            disks[1].kms_key_id = "key-hzz0seed".into();
            disks[1].kms_refusal = "CMKNotEnabled".into();
        },
        guest: Some(""),
    },
    Case {
        name: "rawdisk",
        what: "its data disk has none of the file systems that can be frozen (ext3, ext4, XFS)",
        change: |_, _| {},
        guest: Some("umount /data"),
    },
    Case {
        name: "network",
        what: "a network file system is mounted (GlusterFS, whose server is gone)",
        change: |_, _| {},
        // The connection ends with the shell: whoever opens it gets an error and does not wait.
        guest: Some(
            "mknod /dev/fuse c 10 229; mkdir -p /share
            mount -i -t fuse.glusterfs -o fd=3,rootmode=40000,user_id=0,group_id=0 backup:/share /share 3<>/dev/fuse",
        ),
    },
    Case {
        name: "offline",
        what: "Cloud Assistant is not there",
        change: |instance, _| instance.agent_alive = false,
        guest: None,
    },
    Case {
        name: "norights",
        what: "it lacks the tag without which the function's role may run no command",
        change: |instance, _| instance.tags.0.retain(|key, _| key == TAG.0),
        guest: None,
    },
    Case {
        name: "norole",
        what: "Windows, and no RAM role for the vendor's plugin",
        change: |instance, _| {
            windows(instance, "Windows Server  2022 Datacenter Edition 64bit");
            instance.ram_role = None;
        },
        guest: None,
    },
    Case {
        name: "noscript",
        what: "no scripts",
        change: |_, _| {},
        guest: Some("rm /etc/appsnap/prescript.sh /etc/appsnap/postscript.sh"),
    },
    Case {
        name: "owner",
        what: "its prescript does not belong to root",
        change: |_, _| {},
        guest: Some("chown 1000 /etc/appsnap/prescript.sh"),
    },
    Case {
        name: "mode",
        what: "its prescript has mode 0755",
        change: |_, _| {},
        guest: Some("chmod 0755 /etc/appsnap/prescript.sh"),
    },
    Case {
        name: "tmp",
        what: "its scripts are at the vendor's place, /tmp, which cleaners empty",
        change: |_, _| {},
        guest: Some("mv /etc/appsnap/*script.sh /tmp"),
    },
    Case {
        name: "stopped",
        what: "it is stopped",
        change: |instance, _| {
            instance.status = "Stopped".into();
            instance.agent_alive = false;
        },
        guest: None,
    },
    Case {
        name: "locked",
        what: "it is locked for security",
        change: |instance, _| instance.locks = vec!["security".into()],
        guest: None,
    },
];

impl Case {
    /// `i-…`
    pub fn instance_id(&self) -> String {
        format!("i-bp1seed{}", self.name)
    }
}

/// Adds the instances to the cloud's world and starts the guests that have to be seen into; some seconds.
pub async fn populate(cloud: &LocalCloud) -> Result<(), Failure> {
    cloud.cloud.look(|world, _| {
        world.add_region(FAR);
        let everywhere = Names { regions: vec![REGION.into(), FAR.into()], ..names() };
        roles(&everywhere).into_iter().for_each(|role| world.add_role(role));
        CASES.iter().for_each(|case| add(world, case));
    });
    let real = CASES.iter().filter_map(|case| Some((case, case.guest?)));
    let disk = |case: &Case, n, mount: &str| DiskSpec {
        disk_id: disk_id(case.name, n),
        size_mib: 48,
        filesystem: Filesystem::Ext4,
        mount: Some(mount.into()),
    };
    let wanted =
        real.clone().map(|(case, _)| (case.instance_id(), vec![disk(case, 0, "/"), disk(case, 1, "/data")]));
    let guests = cloud.add_guests(wanted.collect()).await?;
    let spoil: BTreeMap<String, &str> = real.map(|(case, script)| (case.instance_id(), script)).collect();
    for (id, guest) in &guests {
        let script = format!("{SETTLE}\n{}", spoil.get(id).copied().unwrap_or_default());
        let done = guest.exec(&script, &[], b"", Duration::from_secs(20)).await?;
        done.checked(&format!("cannot prepare {id}"))?;
    }
    Ok(())
}

/// A guest of the system that the API tells, with good scripts.
const SETTLE: &str = r#"set -e
rm -f /etc/os-release
printf 'ID=alinux\nVERSION_ID="3"\n' >/etc/os-release
mkdir -m 755 /etc/appsnap
for phase in pre post; do
    printf '#!/bin/sh\n# A real one locks or unlocks the database here.\n' >/etc/appsnap/${phase}script.sh
    chmod 0700 /etc/appsnap/${phase}script.sh
done"#;

fn disk_id(name: &str, n: usize) -> String {
    format!("d-bp1seed{name}{n}")
}

fn windows(instance: &mut Instance, name: &str) {
    instance.os_type = "windows".into();
    instance.os_name = name.into();
    instance.plugins = vec![("app-snapshot-plugin".into(), "1.8".into())];
}

fn add(world: &mut World, case: &Case) {
    let id = case.instance_id();
    let mut instance = instance(&id, case.name);
    instance.tags.0.insert(TAG.0.into(), TAG.1.into());
    let mut disks = vec![disk(&disk_id(case.name, 0), &id, 0), disk(&disk_id(case.name, 1), &id, 1)];
    (case.change)(&mut instance, &mut disks);
    world.add_instance(instance);
    disks.into_iter().for_each(|disk| world.add_disk(disk));
}
