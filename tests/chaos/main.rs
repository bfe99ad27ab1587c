//! `make chaos`: a fleet of real workers under random faults and a mixed load, and a checker of what the product promises.
//!
//! Every choice comes from one seed, which is printed: the same seed gives the same tasks and the same faults in the same order.
//! What the operating system and the network make of their timing differs from run to run.

#![allow(clippy::expect_used, reason = "whatever goes wrong with the set-up should stop the run with a message")]

mod check;
mod faults;
mod load;
mod topology;
mod upstream;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use check::Verdict;
use faults::Fleet;
use load::Load;
use topology::{Kind, Topology};

/// The queues that the load is spread over: on a Cluster each is on a node of its own, as chance has it.
pub(crate) const QUEUES: [&str; 3] = ["default", "bulk", "mail"];

/// Puts real workers and a real Redis under random faults, and checks that every promise holds.
#[derive(Parser)]
struct Args {
    /// How long faults are injected; the tasks that are left then get another minute to finish.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Repeats the tasks and the faults of an earlier run. Default: a random seed.
    #[arg(long)]
    seed: Option<u64>,
    /// The Redis that the fleet works on.
    #[arg(long, value_enum, default_value_t = Kind::Node)]
    redis: Kind,
    /// How many workers run at a time.
    #[arg(long, default_value_t = 3)]
    workers: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(rand::random);
    eprintln!("chaos: --redis {} --minutes {} --workers {} --seed {seed}", args.redis, args.minutes, args.workers);
    redial_tests::stalls::watch();
    let mut rng = StdRng::seed_from_u64(seed);
    let topology = Topology::start(args.redis).await;
    let upstream = upstream::start(seed).await;
    let mut load = Load::new(&topology, &upstream, StdRng::seed_from_u64(seed.wrapping_add(1)));
    let mut fleet = Fleet::start(&topology, args.workers);

    let span = Duration::from_secs_f64(args.minutes * 60.0);
    tokio::join!(load.run(span), fleet.torment(&topology, &mut rng, span));
    fleet.recover(&topology);
    let verdict = check::run(&topology, &upstream, &load).await;
    report(&verdict, &load, &fleet, seed)
}

fn report(verdict: &Verdict, load: &Load<'_>, fleet: &Fleet, seed: u64) -> ExitCode {
    let faults: Vec<String> = fleet.faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
    eprintln!("faults: {}", faults.join(", "));
    eprintln!(
        "answers: {}",
        verdict.answers.iter().map(|(what, n)| format!("{what} {n}")).collect::<Vec<_>>().join(", ")
    );
    for violation in verdict.violations.iter().chain(&fleet.violations).take(50) {
        eprintln!("VIOLATION: {violation}");
    }
    let violations = verdict.violations.len() + fleet.violations.len();
    let (tasks, faults) = (load.tasks.len(), fleet.faults.values().sum::<usize>());
    eprintln!("{tasks} tasks, {faults} faults, {violations} violations, {} lost pushes; seed {seed}", verdict.lost);
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
