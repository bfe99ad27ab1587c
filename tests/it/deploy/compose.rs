use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use super::{DRAIN, Programs, root, text, yaml};

fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(line) => line.split_whitespace().collect(),
        Value::Array(words) => words.iter().map(|word| word.as_str().unwrap()).collect(),
        _ => Vec::new(),
    }
}

fn compose() -> Value {
    yaml("docker-compose.yml").remove(0)
}

#[tokio::test]
async fn containers_run_commands_and_have_variables_that_exist() {
    let (compose, programs) = (compose(), Programs::new().await);
    for (service, program, entrypoint) in
        [("worker", "redial-worker", &["redial-worker"][..]), ("gateway", "redial", &["redial", "serve"])]
    {
        let service = &compose["services"][service];
        let given = words(&service["entrypoint"]);
        programs.check_command(if given.is_empty() { entrypoint } else { &given });
        let check = words(&service["healthcheck"]["test"]);
        assert_eq!(check[0], "CMD", "the image has no shell");
        programs.check_command(&check[1..]);
        for name in service["environment"].as_object().unwrap().keys() {
            programs.check_variable(program, name);
        }
    }
    let dockerfile = text("deploy/Dockerfile");
    assert!(dockerfile.contains("ENTRYPOINT [\"redial-worker\"]"));
    for service in ["worker", "gateway", "demo"] {
        let target = compose["services"][service]["build"]["target"].as_str().unwrap();
        assert!(dockerfile.contains(&format!(" AS {target}\n")), "{target}");
    }
    let rust: toml::Table = toml::from_str(&text("Cargo.toml")).unwrap();
    let rust = rust["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(dockerfile.contains(&format!("ARG RUST={rust}\n")), "the image is built with another Rust than {rust}");
}

#[test]
fn containers_may_do_little_and_have_time_to_drain() {
    let compose = compose();
    for name in ["worker", "gateway", "demo"] {
        let service = &compose["services"][name];
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(words(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(words(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(service["mem_limit"].is_string(), "{name}");
        assert!(service["depends_on"]["redis"]["condition"] == "service_healthy", "{name}");
    }
    let grace = compose["services"]["worker"]["stop_grace_period"].as_str().unwrap();
    let grace: u64 = grace.strip_suffix('s').unwrap().parse().unwrap();
    assert!(grace > DRAIN.as_secs(), "{grace} s are shorter than the drain");
    // Nothing is reached from beyond this machine.
    for (name, service) in compose["services"].as_object().unwrap() {
        assert!(words(&service["ports"]).iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
    }
    let distroless = text("deploy/Dockerfile").lines().filter(|line| line.contains("static-debian12:nonroot")).count();
    assert_eq!(distroless, 2, "both images are without a shell, and of a user without rights");
}

#[test]
fn what_the_compose_file_reads_is_in_the_example_of_its_environment() {
    let variables = Regex::new(r"\$\{(\w+)").unwrap();
    let compose = text("docker-compose.yml");
    let read: BTreeSet<&str> = variables.captures_iter(&compose).map(|found| found.extract::<1>().1[0]).collect();
    let example = text(".env.example");
    let assigned = Regex::new(r"(?m)^#?(\w+)=").unwrap();
    let told: BTreeSet<&str> = assigned.captures_iter(&example).map(|found| found.extract::<1>().1[0]).collect();
    assert_eq!(read, told);
    // A password in the repository would be everybody's.
    for name in ["REDIS_PASSWORD", "REDIAL_GATEWAY_TOKEN"] {
        assert!(compose.contains(&format!("${{{name}:?")), "{name} has to be set");
    }
    assert!(text(".gitignore").lines().any(|line| line == ".env"));
}

#[test]
fn trying_the_compose_file_says_so_where_there_is_no_engine() {
    let mut script = std::process::Command::new("bash");
    script.arg("deploy/try-compose.sh").current_dir(root()).env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let ended = script.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(75), "{said}");
    assert!(said.starts_with("SKIPPED: "), "{said}");
}
