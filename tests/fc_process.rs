//! The custom runtime as a process: the example `hello` with its port, its standard output and SIGTERM.

#[path = "../examples/hello.rs"]
mod hello;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The test starts itself again with this variable set, and is then the function.
const CHILD: &str = "FC_TEST_CHILD";

fn function(test: &str, port: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(CHILD, "1")
        .env("FC_SERVER_PORT", port)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn be_the_function() -> ! {
    let result = hello::main();
    if let Err(error) = &result {
        eprintln!("{error:?}");
    }
    std::process::exit(i32::from(result.is_err()))
}

#[test]
fn a_bad_port_ends_the_process_with_a_clear_error() {
    if std::env::var_os(CHILD).is_some() {
        be_the_function();
    }
    let output =
        function("a_bad_port_ends_the_process_with_a_clear_error", "http").wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("FC_SERVER_PORT=\"http\" is not a port: set it to"), "{error}");
}

#[test]
fn sigterm_lets_an_invocation_finish_and_ends_with_0() {
    if std::env::var_os(CHILD).is_some() {
        be_the_function();
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = function("sigterm_lets_an_invocation_finish_and_ends_with_0", &port.to_string());
    let mut log = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(log.any(|line| line.contains(&format!("\"address\":\"0.0.0.0:{port}\""))), "listens everywhere");
    // Neither a connection that was never used nor one that stays idle holds the stop up.
    let _unused = TcpStream::connect(("127.0.0.1", port)).unwrap();

    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = "POST /invoke HTTP/1.1\r\nhost: x\r\nx-fc-request-id: 1-a\r\ncontent-length: 14\r\n\r\n";
    write!(stream, "{head}{{\"name\":").unwrap();
    assert!(log.any(|line| line == "FC Invoke Start RequestId: 1-a"));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {} // the stop has begun when it accepts no more
    write!(stream, " \"FC\"}}").unwrap();

    let answer = std::io::read_to_string(stream).unwrap();
    assert!(answer.ends_with(r#"{"greeting":"Hello, FC!","requestId":"1-a"}"#), "{answer}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let rest: Vec<_> = log.collect();
    assert!(
        rest[0].contains("\"message\":\"greeting\"") && rest[0].contains("\"requestId\":\"1-a\""),
        "{rest:?}"
    );
    assert_eq!(rest[1..], ["FC Invoke End RequestId: 1-a"]);
}
