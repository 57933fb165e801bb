//! Follows a printed restore plan to the end, knowing nothing of what it is about.

use std::collections::BTreeMap;
use std::time::Duration;

use appsnap::acs::{Call, Client, Kind};
use appsnap::api::assistant::{RunCommand, invocation_result, run_command};
use appsnap::api::ecs::ECS;
use appsnap::clock::Clock;
use serde_json::Value;

/// A cloud in which a plan is followed.
pub struct Follower {
    /// With the rights that the plan asks for.
    pub client: Client,
    /// Where.
    pub region_id: String,
    clock: Clock,
    names: BTreeMap<String, String>,
}

impl Follower {
    /// Knows no names yet.
    pub fn new(client: &Client, region_id: &str) -> Self {
        let (client, clock) = (client.clone(), Clock::system());
        Self { client, region_id: region_id.into(), clock, names: BTreeMap::new() }
    }

    /// Does every step, and sees that it worked.
    pub async fn follow(&mut self, plan: &Value) {
        assert_eq!(plan["regionId"], self.region_id.as_str());
        for step in plan["steps"].as_array().unwrap() {
            println!("{}. {}", step["number"], step["title"].as_str().unwrap());
            if !step["call"].is_null() {
                let answer = self.call(&step["call"]).await;
                for (name, at) in step["yields"].as_object().into_iter().flatten() {
                    let value = answer.pointer(at.as_str().unwrap()).and_then(Value::as_str);
                    let value = value.unwrap_or_else(|| panic!("{at} is not in {answer}")).to_owned();
                    assert_eq!(self.names.insert(name.clone(), value), None, "{name} is bound twice");
                }
            }
            if !step["until"].is_null() {
                self.until(&step["until"]).await;
            }
            if let Some(on) = step["command"]["on"].as_str() {
                let on = self.filled(on);
                let said = self.run(&on, &self.filled(step["command"]["shell"].as_str().unwrap())).await;
                said.lines().for_each(|line| println!("   {line}"));
            }
        }
    }

    /// What a name was bound to.
    pub fn name(&self, name: &str) -> &str {
        &self.names[name]
    }

    /// Runs a script on an instance by Cloud Assistant, as soon as that answers; its output.
    pub async fn run(&self, instance_id: &str, script: &str) -> String {
        let (code, output) = self.try_run(instance_id, script).await;
        assert_eq!(code, Some(0), "{script}\n{output}");
        output
    }

    /// As [`run`](Self::run), with the exit code.
    pub async fn try_run(&self, instance_id: &str, script: &str) -> (Option<i64>, String) {
        let (client, region_id) = (&self.client, self.region_id.as_str());
        let token = self.clock.nonce();
        let command = RunCommand {
            region_id,
            instance_id,
            name: "restore",
            kind: "RunShellScript",
            content: script.as_bytes(),
            timeout: Duration::from_secs(300),
            client_token: &token,
            tags: &[],
        };
        let mut tries = 0;
        let started = loop {
            match run_command(client, &command).await {
                Ok(started) => break started,
                Err(error) if tries < 50 => println!("   not yet: {error}"),
                Err(error) => panic!("{error}"),
            }
            tries += 1;
            self.clock.sleep(Duration::from_millis(300)).await;
        };
        for _ in 0..1500 {
            let result = invocation_result(client, region_id, &started.invoke_id, instance_id).await.unwrap();
            if let Some(result) = result.filter(|result| result.invocation_status.is_end()) {
                return (result.exit_code, result.output);
            }
            self.clock.sleep(Duration::from_millis(200)).await;
        }
        panic!("no end of {script}");
    }

    /// Makes one call; it has to succeed.
    pub async fn call(&self, call: &Value) -> Value {
        let action: &'static str = Box::leak(call["action"].as_str().unwrap().to_owned().into_boxed_str());
        let kind = if action.starts_with("Describe") { Kind::Read } else { Kind::Once };
        let mut wire = Call::new(&ECS, action, &self.region_id, kind);
        for (name, value) in call["parameters"].as_object().unwrap() {
            wire = wire.param(name, self.filled(value.as_str().unwrap()));
        }
        self.client.call(&wire).await.unwrap_or_else(|error| panic!("{call}: {error}"))
    }

    async fn until(&self, until: &Value) {
        let (at, is) = (until["at"].as_str().unwrap(), until["is"].as_str().unwrap());
        let mut answer = Value::Null;
        for _ in 0..600 {
            answer = self.call(until).await;
            if answer.pointer(at).and_then(Value::as_str) == Some(is) {
                return;
            }
            self.clock.sleep(Duration::from_millis(200)).await;
        }
        panic!("{at} never was {is}: {answer}");
    }

    /// With the names that are bound.
    pub fn filled(&self, text: &str) -> String {
        self.names
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
    }
}
