//! What observation costs: the plain path with everything that is recorded turned off, as it is by default, and with traces too, of one
//! task in a hundred and of all.

use std::collections::BTreeMap;

use redial_tests::{Reply, Upstream};

use crate::bare;
use crate::counted::{Arrival, Counted, CountedFleet, CountingUpstream, difference};
use crate::path::{self, Observation};
use crate::rounds::{ROUNDS, median};
use crate::upstream::answer;

/// How much is recorded of the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recording {
    /// No statistics, no events, no traces.
    Nothing,
    /// Statistics and events.
    Default,
    /// As by default, and the trace of one task in a hundred.
    SomeTraces,
    /// As by default, and the trace of each task.
    AllTraces,
}

impl Recording {
    const ALL: [Self; 4] = [Self::Nothing, Self::Default, Self::SomeTraces, Self::AllTraces];

    /// What tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing recorded",
            Self::Default => "recorded as by default",
            Self::SomeTraces => "with a trace of one task in a hundred",
            Self::AllTraces => "with a trace of each task",
        }
    }

    /// The settings of a worker that records this much, and sends traces to this collector.
    fn settings(self, collector: &str) -> Vec<(&'static str, &str)> {
        let traces = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector)];
        match self {
            Self::Nothing => vec![("REDIAL_STATISTICS", "false"), ("REDIAL_EVENTS_PER_S", "0")],
            Self::Default => vec![],
            Self::SomeTraces => {
                let sampler =
                    [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.01")];
                [&traces[..], &sampler].concat()
            }
            Self::AllTraces => [&traces[..], &[("OTEL_TRACES_SAMPLER", "parentbased_always_on")]].concat(),
        }
    }

    /// The instructions of worker and Redis that a task costs, by how much is recorded.
    pub async fn count_instructions(upstream: &CountingUpstream) -> anyhow::Result<BTreeMap<Self, f64>> {
        let collector = collector().await;
        let (collector, arrival) = (collector.url(""), Arrival::Together(256));
        let mut instructions = BTreeMap::new();
        for recording in Self::ALL {
            let settings = recording.settings(&collector);
            let fleet = CountedFleet { label: recording.name(), arrival, counted: Counted::Both, settings: &settings };
            let costs = fleet.costs(upstream).await?.map(|cost| cost.worker + cost.redis);
            instructions.insert(recording, difference(arrival.tasks(), costs));
        }
        Ok(instructions)
    }
}

/// Takes spans, and does nothing with them.
async fn collector() -> Upstream {
    Upstream::quiet(|_| Reply::ok().header("content-type", "application/x-protobuf")).await
}

/// Tasks per second, by how much is recorded. The metrics are read meanwhile, unless nothing is recorded.
pub async fn measure(tasks: usize) -> anyhow::Result<BTreeMap<Recording, f64>> {
    let upstream = Upstream::quiet(|_| answer()).await;
    let collector = collector().await;
    let (url, collector) = (upstream.url("/v1/extract"), collector.url(""));
    let task = |n| format!(r#"{{"id":"t{n}","url":"{url}","body":{}}}"#, bare::BODY);
    let mut rates: BTreeMap<Recording, Vec<f64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for recording in Recording::ALL {
            let settings = recording.settings(&collector);
            let observation = Observation { settings: &settings, is_scraped: recording != Recording::Nothing };
            let (rate, _) = path::observed_worker(&observation, (0..tasks).map(task)).await?;
            rates.entry(recording).or_default().push(rate);
        }
    }
    Ok(rates.into_iter().map(|(recording, rates)| (recording, median(rates))).collect())
}
