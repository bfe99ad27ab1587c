//! What observation costs: the plain path with everything that is recorded turned off, as it is by default while Prometheus reads the metrics, and with
//! traces too, of one task in a hundred and of all.

use redial_tests::{Reply, Upstream};

use crate::bare;
use crate::path::{self, Observation};
use crate::rounds::{ROUNDS, median};

/// Tasks per second with nothing recorded, with what is recorded by default, and with traces too: of one task in a hundred, and of all.
pub async fn measure(tasks: usize) -> anyhow::Result<[f64; 4]> {
    let answer = || Reply::ok().header("content-type", "application/json").body(r#"{"ok":true}"#);
    let upstream = Upstream::quiet(move |_| answer()).await;
    let collector = Upstream::quiet(|_| Reply::ok().header("content-type", "application/x-protobuf")).await;
    let (url, collector) = (upstream.url("/v1/extract"), collector.url(""));
    let task = |n| format!(r#"{{"id":"t{n}","url":"{url}","body":{}}}"#, bare::BODY);
    let nothing = [("REDIAL_STATISTICS", "false"), ("REDIAL_EVENTS_PER_S", "0")];
    let traces = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str())];
    let sampler = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
    let some_traces = [traces[0], sampler, ("OTEL_TRACES_SAMPLER_ARG", "0.01")];
    let variants: [(&[(&str, &str)], bool); 4] =
        [(&nothing, false), (&[], true), (&some_traces, true), (&traces, true)];
    let mut rates = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for ((settings, is_scraped), rates) in variants.iter().zip(&mut rates) {
            let observation = Observation { settings, is_scraped: *is_scraped };
            rates.push(path::observed_worker(&observation, (0..tasks).map(task)).await?.0);
        }
    }
    Ok(rates.map(median))
}
