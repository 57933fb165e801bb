//! What carries out the effects of the world: acts on the guests and disks of this machine, reported back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::agent::{self, Agent};
use super::host::lock;
use super::server::Cloud;
use super::store::Store;
use super::windows;
use super::world::{CommandNews, Effect, Happening, PluginFault, Task};
use crate::clock::Clock;

/// The agents of the real guests, by instance.
pub(super) type Agents = Arc<Mutex<BTreeMap<String, Agent>>>;

/// What carries out effects.
pub(super) struct Hands {
    pub(super) cloud: Cloud,
    pub(super) store: Arc<Store>,
    pub(super) agents: Agents,
    pub(super) clock: Clock,
    pub(super) plugin_faults: Vec<PluginFault>,
}

impl Hands {
    /// Carries out what comes, for ever.
    pub(super) async fn work(self, mut todo: mpsc::UnboundedReceiver<Effect>) {
        let mut under_way = JoinSet::new();
        while let Some(effect) = todo.recv().await {
            self.carry_out(effect, &mut under_way);
            while under_way.try_join_next().is_some() {}
        }
    }

    fn agent(&self, instance_id: &str) -> Option<Agent> {
        lock(&self.agents).get(instance_id).cloned()
    }

    fn carry_out(&self, effect: Effect, under_way: &mut JoinSet<()>) {
        match effect {
            Effect::RunCommand(task) if task.instance_id == windows::INSTANCE => {
                let (cloud, clock, faults) =
                    (self.cloud.clone(), self.clock.clone(), self.plugin_faults.clone());
                under_way.spawn(async move { windows::run(&cloud, &clock, &task, &faults).await });
            }
            // Without a guest nobody takes it up, and the world ends it as the real cloud does.
            Effect::RunCommand(task) => {
                if let Some(agent) = self.agent(&task.instance_id) {
                    under_way.spawn(command(agent, self.cloud.clone(), task));
                }
            }
            Effect::StopCommand { invoke_id, instance_id } => {
                if let Some(agent) = self.agent(&instance_id) {
                    agent.stop(&invoke_id);
                }
            }
            // Nothing is copied of a disk that no guest has.
            Effect::CloneDisk { disk_id, snapshot_id, .. } if !self.store.disk(&disk_id).exists() => {
                self.cloud.report(Happening::DiskCloned { snapshot_id });
            }
            // At once and in this order: the instant of the cut was drawn by the world.
            Effect::CloneDisk { disk_id, snapshot_id, .. } => {
                self.cloud.report(match self.store.take_snapshot(&disk_id, &snapshot_id) {
                    Ok(()) => Happening::DiskCloned { snapshot_id },
                    Err(_) => Happening::DiskCloneFailed { snapshot_id },
                });
            }
            Effect::DiskFromSnapshot { snapshot_id, disk_id } => {
                // Without its image a disk never becomes Available, as a restore that fails.
                if self.store.disk_from_snapshot(&snapshot_id, &disk_id).is_ok() {
                    self.cloud.report(Happening::DiskReady { disk_id });
                }
            }
            Effect::AttachDisk { disk_id, instance_id } => {
                under_way.spawn(plug(self.agent(&instance_id), self.cloud.clone(), disk_id, true));
            }
            Effect::DetachDisk { disk_id, instance_id } => {
                under_way.spawn(plug(self.agent(&instance_id), self.cloud.clone(), disk_id, false));
            }
            Effect::DeleteDisk { disk_id } => drop(self.store.delete_disk(&disk_id)),
            Effect::DeleteSnapshot { snapshot_id } => drop(self.store.delete_snapshot(&snapshot_id)),
            Effect::EmitEvent(_) => {} // nobody subscribes in the demo
        }
    }
}

/// An instance without a guest has its disks on paper only.
async fn plug(agent: Option<Agent>, cloud: Cloud, disk_id: String, attach: bool) {
    let done = match agent {
        None => Ok(()),
        Some(agent) if attach => agent.guest().attach(&disk_id).await,
        Some(agent) => agent.guest().detach(&disk_id).await,
    };
    cloud.report(match done {
        Ok(()) => Happening::DiskReady { disk_id },
        Err(_) => Happening::DiskFailed { disk_id },
    });
}

async fn command(agent: Agent, cloud: Cloud, task: Task) {
    let (sender, mut events) = mpsc::channel(16);
    let tell = |news| {
        let (invoke_id, instance_id) = (task.invoke_id.clone(), task.instance_id.clone());
        cloud.report(Happening::Command { invoke_id, instance_id, news });
    };
    let Ok(content) = String::from_utf8(task.content.clone()) else {
        return tell(CommandNews::Refused("ExecutionException".into()));
    };
    let command = agent::Command {
        invoke_id: task.invoke_id.clone(),
        content,
        timeout: task.timeout,
        working_dir: task.working_dir.clone(),
    };
    agent.run(command, sender);
    while let Some(event) = events.recv().await {
        match event {
            agent::Event::Started => tell(CommandNews::Started),
            agent::Event::Output(bytes) => tell(CommandNews::Output(bytes)),
            agent::Event::Failed(code, _) => tell(CommandNews::Refused(code.into())),
            agent::Event::Finished { exit_code, output, dropped } => {
                tell(CommandNews::Finished { exit_code: exit_code.into(), output, dropped });
            }
            agent::Event::TimedOut { output, dropped } => tell(CommandNews::TimedOut { output, dropped }),
            agent::Event::Stopped => tell(CommandNews::Stopped),
            // The world ends it by its own timeout. Power events end the guest of a demo: nothing to restart.
            agent::Event::Lost | agent::Event::PowerOff | agent::Event::Reboot => {}
        }
    }
}
