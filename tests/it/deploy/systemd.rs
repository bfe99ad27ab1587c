use std::cell::RefCell;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use redial_tests::{Cli, Port, RedisServer, Worker, eventually};

use super::{DRAIN, Programs, text};

const UNITS: [(&str, &str); 2] = [("redial-worker", "redial-worker"), ("redial-gateway", "redial")];
const SOON: Duration = Duration::from_secs(30);

fn unit(name: &str) -> String {
    text(&format!("deploy/systemd/{name}.service"))
}

/// The values of a word in a unit, in order.
fn values<'a>(unit: &'a str, word: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix('=')).collect()
}

#[tokio::test]
async fn units_run_commands_and_set_variables_that_exist_and_systemd_accepts_them() {
    let (programs, folder) = (Programs::new().await, tempfile::tempdir().unwrap());
    for (name, program) in UNITS {
        let unit = unit(name);
        let started: Vec<&str> = values(&unit, "ExecStart")[0].split_whitespace().collect();
        programs.check_command(&started);
        for assigned in values(&unit, "Environment") {
            programs.check_variable(program, assigned.split_once('=').unwrap().0);
        }
        // systemd wants the programs to be there.
        let here = unit.replace("/usr/bin/", &format!("{}/", programs.folder.display()));
        let file = folder.path().join(format!("{name}.service"));
        std::fs::write(&file, here).unwrap();
        let Ok(verified) = Command::new("systemd-analyze").arg("verify").arg(&file).output() else {
            eprintln!("SKIPPED: systemd is not installed");
            continue;
        };
        let said = String::from_utf8_lossy(&verified.stderr);
        // It also reads the units of this machine, and complains about those.
        let complaints: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(verified.status.success() && complaints.is_empty(), "{said}");
    }
}

#[test]
fn units_are_confined_and_have_time_to_drain() {
    for (name, _) in UNITS {
        let unit = unit(name);
        for line in [
            "Type=notify",
            "DynamicUser=yes",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "CapabilityBoundingSet=",
            "SystemCallFilter=@system-service",
            "LimitNOFILE=65536",
        ] {
            assert!(unit.lines().any(|there| there == line), "{name}: {line}");
        }
    }
    let unit = unit("redial-worker");
    let stop: u64 = values(&unit, "TimeoutStopSec")[0].parse().unwrap();
    assert!(stop > DRAIN.as_secs(), "{stop} s are shorter than the drain");
}

/// A socket like systemd's, and what has arrived there.
struct Notified {
    socket: UnixDatagram,
    seen: RefCell<String>,
}

impl Notified {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, seen: RefCell::default() }
    }

    async fn expect(&self, words: &str) {
        let told = || async {
            let mut bytes = [0; 256];
            while let Ok(length) = self.socket.recv(&mut bytes) {
                *self.seen.borrow_mut() += &String::from_utf8_lossy(&bytes[..length]);
            }
            self.seen.borrow().contains(words).then_some(())
        };
        eventually(SOON, told).await;
    }
}

#[tokio::test]
async fn programs_tell_systemd_when_they_are_ready_and_when_they_stop() {
    let (redis, folder, port) = (RedisServer::start().await, tempfile::tempdir().unwrap(), Port::claim());
    let [of_worker, of_gateway] = ["worker", "gateway"].map(|name| folder.path().join(name));
    let (workers, gateways) = (Notified::at(&of_worker), Notified::at(&of_gateway));
    let worker = Worker::builder(&redis).env("NOTIFY_SOCKET", of_worker.to_str().unwrap()).spawn();
    workers.expect("READY=1").await;
    worker.term();
    workers.expect("STOPPING=1").await;

    let listen = format!("127.0.0.1:{}", port.number());
    let cli = Cli::new(&redis).env("NOTIFY_SOCKET", of_gateway.to_str().unwrap());
    let gateway = cli.start(&["serve", "--listen", &listen]);
    gateways.expect("READY=1").await;
    let id = gateway.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    gateways.expect("STOPPING=1").await;
}
