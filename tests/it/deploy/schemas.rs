//! The manifests against the schemas of what reads them. Those of Kubernetes are in the package kubernetes-validate; of the kinds of KEDA and of the
//! Prometheus Operator, the fields that the manifests have are written down here, and any other is refused.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::kubernetes::FOLDERS;
use super::{root, yaml};

/// What the Prometheus Operator accepts as an interval.
const INTERVAL: &str = "^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$";

/// An object with these fields and no others.
fn object(required: &[&str], properties: &Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

/// The schema of a kind that Kubernetes does not have by itself.
fn of_kind(kind: &str) -> Option<Value> {
    let (text, count) = (json!({"type": "string", "minLength": 1}), json!({"type": "integer", "minimum": 0}));
    let labels = object(&["matchLabels"], &json!({"matchLabels": {"type": "object", "additionalProperties": text}}));
    let secret = object(&["name", "key"], &json!({"name": text, "key": text}));
    let endpoint = object(
        &["port"],
        &json!({
            "port": text, "interval": {"type": "string", "pattern": INTERVAL},
            "authorization": object(&["credentials"], &json!({"type": text, "credentials": secret})),
        }),
    );
    let endpoints = json!({"type": "array", "minItems": 1, "items": endpoint});
    let (version, spec) = match kind {
        "ScaledObject" => (
            "keda.sh/v1alpha1",
            object(
                &["scaleTargetRef", "triggers"],
                &json!({
                    "scaleTargetRef": object(&["name"], &json!({"name": text})),
                    "minReplicaCount": count, "maxReplicaCount": {"type": "integer", "minimum": 1},
                    "pollingInterval": {"type": "integer", "minimum": 1}, "cooldownPeriod": count,
                    "fallback": object(&["failureThreshold", "replicas"], &json!({"failureThreshold": count, "replicas": count})),
                    "triggers": {"type": "array", "minItems": 1, "items": object(&["type", "metadata"], &json!({
                        "type": {"const": "prometheus"},
                        // Numbers, too, are strings here.
                        "metadata": object(&["serverAddress", "query", "threshold"],
                            &json!({"serverAddress": text, "query": text, "threshold": text, "activationThreshold": text})),
                    }))},
                }),
            ),
        ),
        "PodMonitor" => (
            "monitoring.coreos.com/v1",
            object(
                &["selector", "podMetricsEndpoints"],
                &json!({"selector": labels, "podMetricsEndpoints": endpoints}),
            ),
        ),
        "ServiceMonitor" => (
            "monitoring.coreos.com/v1",
            object(&["selector", "endpoints"], &json!({"selector": labels, "endpoints": endpoints})),
        ),
        _ => return None,
    };
    Some(object(
        &["apiVersion", "kind", "metadata", "spec"],
        &json!({
            "apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": object(&["name"], &json!({"name": text})), "spec": spec,
        }),
    ))
}

/// What is wrong with an object of such a kind.
fn errors(manifest: &Value, schema: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    validator.iter_errors(manifest).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn kinds_of_keda_and_of_the_prometheus_operator_have_fields_that_exist() {
    let mut seen = Vec::new();
    for path in ["deploy/kubernetes/keda/scaler.yaml", "deploy/kubernetes/prometheus/monitor.yaml"] {
        for manifest in yaml(path) {
            let kind = manifest["kind"].as_str().unwrap().to_owned();
            let schema = of_kind(&kind).unwrap_or_else(|| panic!("{path}: there is no schema of {kind}"));
            assert_eq!(errors(&manifest, &schema), Vec::<String>::new(), "{path}");
            let mut wrong = manifest;
            wrong["spec"]["replicas"] = 2.into();
            assert_eq!(errors(&wrong, &schema).len(), 1, "{path}: a field that {kind} does not have passes");
            seen.push(kind);
        }
    }
    assert_eq!(seen, ["ScaledObject", "PodMonitor", "ServiceMonitor"]);
}

#[test]
fn manifests_conform_to_the_schemas_of_kubernetes() {
    let validate = root().join("target/kubernetes-validate/bin/kubernetes-validate");
    if !validate.is_file() {
        eprintln!("SKIPPED: kubernetes-validate is not installed: make kubernetes");
        return;
    }
    let mut checked = 0;
    for folder in FOLDERS {
        for file in std::fs::read_dir(root().join("deploy/kubernetes").join(folder)).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|end| end == "yaml") && !file.ends_with("kustomization.yaml") {
                let text = std::fs::read_to_string(&file).unwrap();
                let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
                if objects.iter().all(|object| of_kind(object["kind"].as_str().unwrap()).is_none()) {
                    let (passed, said) = validated(&validate, &file);
                    let lines = said.lines().filter(|line| line.contains(" passed for resource ")).count();
                    assert!(passed && lines == objects.len(), "{}: {said}", file.display());
                    checked += lines;
                }
            }
        }
    }
    assert!(checked >= 7, "{checked} objects were checked");
    // It is strict: a field that does not exist is an error.
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.yaml");
    let worker = super::text("deploy/kubernetes/base/worker.yaml");
    std::fs::write(&wrong, worker.replace("terminationGracePeriodSeconds", "terminationGraceSeconds")).unwrap();
    let (passed, said) = validated(&validate, &wrong);
    assert!(!passed && said.contains("terminationGraceSeconds"), "{said}");
}

fn validated(validate: &Path, file: &Path) -> (bool, String) {
    let output = Command::new(validate).arg("--strict").arg(file).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said)
}
