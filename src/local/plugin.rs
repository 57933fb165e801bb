//! The vendor's app-snapshot-plugin in the local cloud: on a Linux guest a stand-in that really freezes and really calls
//! the API with the instance's role, laid where the real one lies, with its known faults.

use std::fmt::Write as _;
use std::time::Duration;

use super::agent::HOME;
use super::guest::Guest;
use super::host::Failure;
use super::world::{PluginFault, Session};

/// The RAM role of the instances: what it may do is `policies/instance.json`.
pub const ROLE: &str = "AppSnapshotRole";

const MANAGER: &str = include_str!("plugin/acs-plugin-manager.sh");
const PLUGIN: &str = include_str!("plugin/app-snapshot-plugin.sh");
const FREEZER: &str = include_str!("plugin/fsfreezer.sh");

/// Where the guest's stand-in finds what the real one asks of the metadata server.
pub struct Metadata<'a> {
    /// The API.
    pub endpoint: &'a str,
    /// Region of the instance.
    pub region_id: &'a str,
    /// Credentials of the instance's role.
    pub session: &'a Session,
}

/// Lays manager, plugin and freezer into the guest, and its metadata on tmpfs.
pub async fn install(guest: &Guest, metadata: &Metadata<'_>, faults: &[PluginFault]) -> Result<(), Failure> {
    let plugin = format!("{HOME}/plugin/app-snapshot-plugin/1.8");
    let made = guest.exec(r#"mkdir -p "$1""#, &[&plugin], b"", Duration::from_secs(10)).await?;
    made.checked("cannot make the plugin's directory")?;
    let manager = format!("{HOME}/acs-plugin-manager");
    guest.write_file(&manager, MANAGER.as_bytes(), "755").await?;
    guest.write_file(&format!("{plugin}/app-snapshot-plugin"), PLUGIN.as_bytes(), "755").await?;
    guest.write_file(&format!("{plugin}/fsfreezer"), FREEZER.as_bytes(), "755").await?;
    let session = metadata.session;
    let text = format!(
        "endpoint='{}' region='{}' instance='{}' has='{ROLE}' key='{}' secret='{}' token='{}'\n",
        metadata.endpoint,
        metadata.region_id,
        guest.instance_id(),
        session.access_key_id,
        session.access_key_secret.expose(),
        session.security_token.expose(),
    );
    guest.write_file("/run/appsnap-metadata", text.as_bytes(), "600").await?;
    set_faults(guest, faults).await
}

/// What goes wrong from now on.
pub async fn set_faults(guest: &Guest, faults: &[PluginFault]) -> Result<(), Failure> {
    let mut text = String::new();
    for fault in faults {
        // Writing to a String does not fail.
        let _ = match fault {
            PluginFault::Exit(code) => writeln!(text, "exit {code}"),
            PluginFault::Misspelt => writeln!(text, "misspelt"),
            PluginFault::Untagged => writeln!(text, "untagged"),
            PluginFault::SlowFreeze(late) => writeln!(text, "slow {}", late.as_secs()),
        };
    }
    guest.write_file("/run/appsnap-plugin-faults", text.as_bytes(), "644").await
}
