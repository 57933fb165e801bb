//! The instance of the local cloud that lends itself to verifications: a scratch guest with a system disk only.

use std::sync::Arc;

use super::cloud::{LocalCloud, disk, instance};
use super::guest::{DiskSpec, Guest};
use super::host::Failure;
use super::store::Filesystem;
use super::world;

/// Its id.
pub const INSTANCE: &str = "i-bp1demoverify000000a";
const DISK: &str = "d-bp1demoverify0000000";
/// What the server of a copy has to be installed on is this machine; the disk holds the guest's own files.
const IMAGE_MIB: u64 = 256;

/// Adds it, running.
pub async fn add(cloud: &LocalCloud) -> Result<Arc<Guest>, Failure> {
    cloud.server.cloud.look(|world, _| {
        let mut lent = instance(INSTANCE, "verify");
        lent.tags.0.insert("appsnap:verify".into(), "allowed".into());
        world.add_instance(lent);
        world.add_disk(world::Disk { device: "/dev/xvda".into(), size: 20, ..disk(DISK, INSTANCE, 0) });
    });
    let system = DiskSpec {
        disk_id: DISK.into(),
        size_mib: IMAGE_MIB,
        filesystem: Filesystem::Ext4,
        mount: Some("/".into()),
    };
    let mut guests = cloud.add_guests(vec![(INSTANCE.into(), vec![system])]).await?;
    guests.remove(INSTANCE).ok_or_else(|| Failure(format!("{INSTANCE} has no guest")))
}
