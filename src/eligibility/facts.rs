//! What is known about one instance, in the words of the Describe calls.

/// One instance and the disks of it that are to be snapshotted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The instance.
    pub instance: InstanceFacts,
    /// The chosen disks (see [`super::pick_disks`]).
    pub disks: Vec<DiskFacts>,
    /// Its Cloud Assistant client.
    pub agent: AgentFacts,
}

/// From DescribeInstances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceFacts {
    /// `i-…`
    pub instance_id: String,
    /// RegionId.
    pub region_id: String,
    /// Status: Pending, Running, Starting, Stopping, Stopped.
    pub status: String,
    /// OSType: linux or windows.
    pub os_type: String,
    /// OSNameEn (or OSName), e.g. `CentOS  7.9 64 bit`.
    pub os_name: String,
    /// OperationLocks.LockReason, e.g. `security`.
    pub locks: Vec<String>,
}

impl InstanceFacts {
    /// Whether nothing runs in it, and nothing is about to.
    pub fn stopped(&self) -> bool {
        self.status == "Stopped"
    }
}

/// From DescribeDisks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFacts {
    /// `d-…`
    pub disk_id: String,
    /// Type: system or data.
    pub disk_type: String,
    /// Category, e.g. `cloud_essd`.
    pub category: String,
    /// Status, e.g. `In_use`.
    pub status: String,
    /// Whether MultiAttach is anything but `Disabled`.
    pub multi_attach: bool,
    /// Size, GiB.
    pub size_gib: u64,
    /// ZoneId; empty for a regional disk.
    pub zone_id: String,
    /// OperationLocks.LockReason, e.g. `financial`.
    pub locks: Vec<String>,
    /// Encrypted: the id of its key, or empty where the service's own is used. `None`: not encrypted.
    pub key_id: Option<String>,
    /// Its snapshots, as far as they were asked for.
    pub snapshots: Snapshots,
}

/// From DescribeSnapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Snapshots {
    /// That takes two calls for each disk: a run leaves them to the create.
    #[default]
    NotAsked,
    /// Why they could not be read: the cloud's code and message.
    Refused(String, String),
    /// What there is.
    Counted {
        /// Under way, of whatever kind.
        under_way: usize,
        /// Made by hand or by a call, groups included; not by an automatic policy.
        manual: usize,
    },
}

impl DiskFacts {
    /// A disk of which only the id is known.
    pub fn named(disk_id: &str) -> Self {
        let unknown = String::new;
        Self {
            disk_id: disk_id.into(),
            disk_type: unknown(),
            category: unknown(),
            status: unknown(),
            multi_attach: false,
            size_gib: 0,
            zone_id: unknown(),
            locks: vec![],
            key_id: None,
            snapshots: Snapshots::NotAsked,
        }
    }
}

/// From DescribeCloudAssistantStatus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFacts {
    /// CloudAssistantStatus: a heartbeat within the last two minutes. `None`: the call told nothing.
    pub online: Option<bool>,
    /// CloudAssistantVersion.
    pub version: Option<String>,
    /// LastHeartbeatTime.
    pub last_heartbeat: Option<String>,
}

#[cfg(test)]
impl Facts {
    /// A world in which nothing stands against a snapshot.
    pub(super) fn good() -> Self {
        Self {
            instance: InstanceFacts {
                instance_id: "i-1".into(),
                region_id: "cn-hangzhou".into(),
                status: "Running".into(),
                os_type: "linux".into(),
                os_name: "Alibaba Cloud Linux  3.2104 LTS 64 bit".into(),
                locks: vec![],
            },
            disks: vec![DiskFacts::good("d-1", "system"), DiskFacts::good("d-2", "data")],
            agent: AgentFacts { online: Some(true), version: Some("2.2.4.900".into()), last_heartbeat: None },
        }
    }
}

#[cfg(test)]
impl DiskFacts {
    pub(super) fn good(disk_id: &str, disk_type: &str) -> Self {
        Self {
            disk_id: disk_id.into(),
            disk_type: disk_type.into(),
            category: "cloud_essd".into(),
            status: "In_use".into(),
            multi_attach: false,
            size_gib: 40,
            zone_id: "cn-hangzhou-h".into(),
            locks: vec![],
            key_id: None,
            snapshots: Snapshots::NotAsked,
        }
    }
}
