//! `make chaos`: a fleet of real workers under random faults and a mixed load, and a checker of what the product promises.
//!
//! Every choice comes from one seed, which is printed: the same seed gives the same tasks and the same faults in the same order.
//! What the operating system and the network make of their timing differs from run to run.
//!
//! - [`topology`]: the Redis; [`upstream`]: what is called; [`fleet`]: the workers; [`world`]: all that they share
//! - [`kinds`], [`load`]: the tasks; [`schedules`], [`probes`]: those that fire by themselves, and those that measure
//! - [`faults`], [`timeline`]: what goes wrong, and when it did
//! - [`check`], [`report`]: what must hold, and what came of it

#![allow(clippy::expect_used, reason = "whatever goes wrong with the set-up should stop the run with a message")]

mod check;
mod faults;
mod fleet;
mod kinds;
mod load;
mod probes;
mod report;
mod schedules;
mod timeline;
mod topology;
mod upstream;
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use check::Evidence;
use faults::Fault;
use fleet::Fleet;
use kinds::Purpose;
use load::Load;
use schedules::Ticks;
use topology::{Kind, Topology};
use upstream::Upstreams;
use world::World;

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
    /// Kinds of tasks and faults to leave out, such as `large,step-clock`.
    #[arg(long, value_delimiter = ',')]
    without: Vec<Name>,
    /// The only faults to inject. Default: all.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
}

/// A kind of task, or a fault.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Purpose(Purpose),
    Fault(Fault),
}

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let purpose = Purpose::from_str(name, false).map(Self::Purpose);
        purpose.or_else(|_| Fault::from_str(name, false).map(Self::Fault)).map_err(|_| {
            let purposes = Purpose::value_variants().iter().filter_map(|one| one.to_possible_value());
            let faults = Fault::value_variants().iter().filter_map(|one| one.to_possible_value());
            let all: Vec<String> = purposes.chain(faults).map(|value| value.get_name().to_owned()).collect();
            format!("there are: {}", all.join(", "))
        })
    }
}

impl Args {
    fn purposes(&self) -> Vec<Purpose> {
        let all = Purpose::value_variants().iter().copied();
        all.filter(|purpose| !self.without.contains(&Name::Purpose(*purpose))).collect()
    }

    fn faults(&self) -> Vec<Fault> {
        let all = if self.faults.is_empty() { Fault::value_variants() } else { &self.faults };
        all.iter().copied().filter(|fault| !self.without.contains(&Name::Fault(*fault))).collect()
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(rand::random);
    eprintln!("chaos: --redis {} --minutes {} --workers {} --seed {seed}", args.redis, args.minutes, args.workers);
    redial_tests::stalls::watch();
    let mut rng = StdRng::seed_from_u64(seed);
    let world = Arc::new(World::new(Topology::start(args.redis).await, Upstreams::start(seed).await));
    let purposes = args.purposes();
    let ticks = if purposes.contains(&Purpose::Scheduled) { Ticks::start(&world).await } else { Ticks::none() };
    let mut load = Load::new(world.clone(), purposes, StdRng::seed_from_u64(seed.wrapping_add(1)));
    let mut fleet = Fleet::start(&world, args.workers);

    let span = Duration::from_secs_f64(args.minutes * 60.0);
    let faults = args.faults();
    let ((), (), probes) = tokio::join!(
        load.run(span),
        faults::torment(&world, &mut fleet, &faults, &mut rng, span),
        probes::run(world.clone(), span),
    );
    fleet.recover();
    let evidence = Evidence::gather(&world, &load.tasks, &probes, &ticks).await;
    let mut verdict = check::run(&evidence).await;
    fleet.end().await;
    check::check_ended(&world, &mut verdict).await;
    verdict.violations.append(&mut fleet.violations);
    report::print(&verdict, &world, load.tasks.len() + probes.len(), seed)
}
