//! What carries out the effects of the world: acts on the guests and disks of this machine, reported back.

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::agent::{self, Agent};
use super::power::Power;
use super::server::Cloud;
use super::windows;
use super::world::{CommandNews, Effect, Happening, Task};

/// What carries out effects.
pub(super) struct Hands {
    pub(super) power: Power,
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

    fn carry_out(&self, effect: Effect, under_way: &mut JoinSet<()>) {
        let Power { cloud, store, clock, plugin_faults, .. } = &self.power;
        match effect {
            Effect::RunCommand(task) if task.instance_id == windows::INSTANCE => {
                let (cloud, clock, faults) = (cloud.clone(), clock.clone(), plugin_faults.clone());
                under_way.spawn(async move { windows::run(&cloud, &clock, &task, &faults).await });
            }
            // Without a guest nobody takes it up, and the world ends it as the real cloud does.
            Effect::RunCommand(task) => {
                if let Some(agent) = self.power.agent(&task.instance_id) {
                    under_way.spawn(command(agent, cloud.clone(), task));
                }
            }
            Effect::StopCommand { invoke_id, instance_id } => {
                if let Some(agent) = self.power.agent(&instance_id) {
                    agent.stop(&invoke_id);
                }
            }
            // Nothing is copied of a disk that no guest has.
            Effect::CloneDisk { disk_id, snapshot_id, .. } if !store.disk(&disk_id).exists() => {
                cloud.report(Happening::DiskCloned { snapshot_id });
            }
            // At once and in this order: the instant of the cut was drawn by the world.
            Effect::CloneDisk { disk_id, snapshot_id, .. } => {
                cloud.report(match store.take_snapshot(&disk_id, &snapshot_id) {
                    Ok(()) => Happening::DiskCloned { snapshot_id },
                    Err(_) => Happening::DiskCloneFailed { snapshot_id },
                });
            }
            Effect::DiskFromSnapshot { snapshot_id, disk_id } => {
                // Without its image a disk never becomes Available, as a restore that fails.
                if store.disk_from_snapshot(&snapshot_id, &disk_id).is_ok() {
                    cloud.report(Happening::DiskReady { disk_id });
                }
            }
            Effect::ResetDisk { disk_id, snapshot_id } => {
                if store.reset_disk(&disk_id, &snapshot_id).is_ok() {
                    cloud.report(Happening::DiskReady { disk_id });
                }
            }
            Effect::AttachDisk { disk_id, instance_id } => {
                under_way.spawn(self.power.clone().plug(instance_id, disk_id, true));
            }
            Effect::DetachDisk { disk_id, instance_id } => {
                under_way.spawn(self.power.clone().plug(instance_id, disk_id, false));
            }
            Effect::RunInstance { instance_id, host_name, disk_ids } => {
                under_way.spawn(self.power.clone().create(instance_id, host_name, disk_ids));
            }
            Effect::DeleteInstance { instance_id, kept } => {
                under_way.spawn(self.power.clone().delete(instance_id, kept));
            }
            Effect::StopInstance { instance_id, force } => {
                under_way.spawn(self.power.clone().stop(instance_id, force));
            }
            Effect::StartInstance { instance_id } => {
                under_way.spawn(self.power.clone().start(instance_id));
            }
            Effect::DeleteDisk { disk_id } => drop(store.delete_disk(&disk_id)),
            Effect::DeleteSnapshot { snapshot_id } => drop(store.delete_snapshot(&snapshot_id)),
            Effect::EmitEvent(_) => {} // nobody subscribes in the demo
        }
    }
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
