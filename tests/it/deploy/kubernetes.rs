use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{DRAIN, Programs, root, yaml};

pub(super) const FOLDERS: [&str; 3] = ["base", "keda", "prometheus"];

/// All objects of a folder as `kubectl` puts them together, or `None` (and a line that says SKIPPED) where it is not.
fn built(folder: &str) -> Option<Vec<Value>> {
    let mut kubectl = Command::new("kubectl");
    let Ok(output) = kubectl.args(["kustomize", folder]).current_dir(root().join("deploy/kubernetes")).output() else {
        eprintln!("SKIPPED: kubectl is not installed");
        return None;
    };
    assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
    Some(serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap())
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

#[test]
fn every_manifest_is_yaml_and_listed() {
    for folder in FOLDERS {
        let path = |file: &str| format!("deploy/kubernetes/{folder}/{file}");
        let listed = yaml(&path("kustomization.yaml")).remove(0);
        for file in std::fs::read_dir(root().join("deploy/kubernetes").join(folder)).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            if Path::new(&name).extension().is_some_and(|end| end == "yaml") && name != "kustomization.yaml" {
                assert!(listed["resources"].as_array().unwrap().contains(&name.as_str().into()), "{name}");
                for object in yaml(&path(&name)) {
                    assert!(object["apiVersion"].is_string() && object["kind"].is_string(), "{name}: {object}");
                }
            }
        }
    }
    let parts = FOLDERS.map(built);
    let [Some(base), Some(keda), Some(prometheus)] = parts else { return };
    assert_eq!(of_kind(&keda, "ScaledObject").len(), 1);
    assert_eq!(of_kind(&prometheus, "PodMonitor").len() + of_kind(&prometheus, "ServiceMonitor").len(), 2);
    assert!(keda.len() == base.len() + 1 && prometheus.len() == base.len() + 2);
}

#[tokio::test]
async fn pods_run_commands_and_have_variables_and_ports_that_exist() {
    let programs = Programs::new().await;
    for (file, program) in [("worker.yaml", "redial-worker"), ("gateway.yaml", "redial")] {
        let deployment = yaml(&format!("deploy/kubernetes/base/{file}")).remove(0);
        let pod = &deployment["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let command: Vec<&str> =
            container["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(command[0], program);
        programs.check_command(&command);
        for variable in container["env"].as_array().unwrap() {
            programs.check_variable(program, variable["name"].as_str().unwrap());
        }
        let port = &container["ports"][0]["name"];
        for (probe, path) in [("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")] {
            let asked = &container[probe]["httpGet"];
            assert!(asked["path"] == path && asked["port"] == *port, "{file}: {asked}");
        }
        assert_eq!(deployment["spec"]["selector"]["matchLabels"], deployment["spec"]["template"]["metadata"]["labels"]);
        let rights = &container["securityContext"];
        assert!(rights["readOnlyRootFilesystem"] == true && rights["allowPrivilegeEscalation"] == false, "{rights}");
        assert_eq!(rights["capabilities"]["drop"][0], "ALL");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    }
}

#[test]
fn pods_have_time_to_drain_and_are_not_taken_away_at_once() {
    let worker = yaml("deploy/kubernetes/base/worker.yaml").remove(0);
    let grace = worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > DRAIN.as_secs(), "{grace} s are shorter than the drain");
    let budgets = yaml("deploy/kubernetes/base/disruption.yaml");
    let policies = yaml("deploy/kubernetes/base/network.yaml");
    for name in ["redial-worker", "redial-gateway"] {
        let is_about = |selector: &Value| selector["matchLabels"]["app.kubernetes.io/name"] == name;
        assert!(budgets.iter().any(|budget| is_about(&budget["spec"]["selector"])), "{name}");
        assert!(policies.iter().any(|policy| is_about(&policy["spec"]["podSelector"])), "{name}");
    }
    let scaler = yaml("deploy/kubernetes/keda/scaler.yaml").remove(0);
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], worker["metadata"]["name"]);
}
