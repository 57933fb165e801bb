//! Values of registered commands: taken apart, and made by hand.

use std::io::Write;

use appsnap::guest::pinned::{self, Command, Pins};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::rig::{self, Rig};

/// The registered text with the value in its place, as Cloud Assistant makes it.
pub fn script(command: &Command, value: &[u8]) -> Vec<u8> {
    let (before, after) = command.text.split_once("{{values}}").unwrap();
    [before.as_bytes(), value, after.as_bytes()].concat()
}

/// All three, with good values.
pub fn orders(rig: &Rig, port: u16) -> [(Command, String); 3] {
    let plan = rig.plan("a-1");
    let pins = Pins {
        pre_script: plan.pre_script.clone(),
        post_script: plan.post_script.clone(),
        ca_bundle: plan.ca_bundle.clone(),
        host: format!("localhost:{port}"),
    };
    let signed = rig::signed("a-1", port);
    [
        (pinned::find_command(&pins).unwrap(), pinned::find_value(&plan).unwrap()),
        (pinned::go_command(&pins).unwrap(), pinned::go_value("a-1", &signed).unwrap()),
        (pinned::settle_command().unwrap(), pinned::settle_value("a-1").unwrap()),
    ]
}

/// The lines that are in a value.
pub fn lines(value: &str) -> Vec<String> {
    let mut child = std::process::Command::new("gzip")
        .arg("-dc")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&BASE64_STANDARD.decode(value).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().split('\n').map(str::to_owned).collect()
}

/// A value that holds these bytes: a stored block, which gzip takes as any other.
pub fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let mut chunks = bytes.chunks(65_535).peekable();
    while let Some(chunk) = chunks.next() {
        out.push(u8::from(chunks.peek().is_none()));
        let length = chunk.len() as u16;
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(chunk);
    }
    let crc = bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
    });
    out.extend((!crc).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    BASE64_STANDARD.encode(out).into_bytes()
}
