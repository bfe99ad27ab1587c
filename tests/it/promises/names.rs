//! How names become addresses: kept for as long as their server says, asked for once, and a name whose server hangs holds up no other.

use std::process::Command;
use std::time::Duration;

use redial_tests::dns::NameAnswer;
use redial_tests::{DnsServer, Reply, Upstream, Worker, WorkerBuilder, eventually};
use serde_json::{Value, json};

use super::{SOON, Stage, attempts, counter, ids};

/// A stage and the name server that its workers ask.
struct NamesStage {
    stage: Stage,
    dns: DnsServer,
}

impl NamesStage {
    /// With an upstream that closes its connection after each answer, so that each call needs the name's address again.
    async fn start() -> Self {
        let upstream = Upstream::on_all_addresses(|_| Reply::ok().header("connection", "close")).await;
        Self { stage: Stage::on(upstream).await, dns: DnsServer::start() }
    }

    fn worker(&self) -> WorkerBuilder {
        self.stage.worker().env("REDIAL_NAME_SERVERS", self.dns.address())
    }

    async fn ready_worker(&self) -> Worker {
        let worker = self.worker().spawn();
        worker.wait_ready().await;
        worker
    }

    fn task(&self, id: &str, name: &str, more: &Value) -> Value {
        let mut task = more.clone();
        task["id"] = json!(id);
        task["url"] = json!(format!("http://{name}:{}/", self.stage.upstream.address().port()));
        task
    }

    async fn call(&self, id: &str, name: &str, more: &Value) -> Value {
        self.stage.answer(self.task(id, name, more)).await
    }
}

#[tokio::test]
async fn an_address_is_kept_for_its_ttl_and_no_longer() {
    let names = NamesStage::start().await;
    names.dns.set_addresses("kept.test", &["127.0.0.1"], 60);
    names.dns.set_addresses("brief.test", &["127.0.0.1"], 1);
    let _worker = names.ready_worker().await;
    for n in 0..5 {
        assert_eq!(names.call(&format!("kept{n}"), "kept.test", &json!({})).await["status"], "ok");
    }
    assert_eq!(names.dns.queries("kept.test"), 1);
    assert_eq!(names.call("before", "brief.test", &json!({})).await["status"], "ok");
    // Nothing listens there any more: what was true before must be forgotten.
    names.dns.set_addresses("brief.test", &["127.0.0.9"], 1);
    names.dns.set_addresses("kept.test", &["10.0.0.1"], 60);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(names.call("after", "brief.test", &json!({})).await["status"], "ok");
    assert_eq!(names.dns.queries("brief.test"), 2);
    assert_eq!(names.call("still", "kept.test", &json!({})).await["status"], "ok");
}

#[tokio::test]
async fn a_name_whose_server_hangs_is_asked_for_once_and_holds_up_no_other() {
    let names = NamesStage::start().await;
    names.dns.set("hangs.test", NameAnswer::Silence);
    names.dns.set_addresses("good.test", &["127.0.0.1"], 0);
    let worker = names.worker().env("REDIAL_CONCURRENCY", "1000").spawn();
    worker.wait_ready().await;
    let hanging = ids("hanging", 700);
    let more = json!({"connect_timeout_ms": 8_000, "retry": {"max_attempts": 1}});
    names.stage.queue.push_all(hanging.iter().map(|id| names.task(id, "hangs.test", &more).to_string())).await;
    let all_called = || async { (worker.metric("redial_slots_in_use").await >= 700.0).then_some(()) };
    eventually(SOON, all_called).await;
    for n in 0..5 {
        let result = names.call(&format!("beside{n}"), "good.test", &json!({"retry": {"max_attempts": 1}})).await;
        assert_eq!(result["status"], "ok", "{result}");
    }
    assert!(names.stage.queue.results(&hanging).await.iter().all(Option::is_none), "they still hang");
    // One lookup, which asks a server that says nothing a few times.
    assert!(names.dns.queries("hangs.test") <= 4, "{} queries", names.dns.queries("hangs.test"));
    let results = names.stage.queue.wait_results(&hanging, SOON).await;
    assert!(results.iter().all(|result| attempts(result) == 1 && result["status"] == "dead"), "{:?}", results[0]);
}

#[tokio::test]
async fn while_too_many_lookups_hang_another_one_waits_without_an_attempt() {
    let names = NamesStage::start().await;
    names.dns.set_addresses("good.test", &["127.0.0.1"], 0);
    // So few descriptors allow eight lookups at a time.
    let worker = names.worker().descriptor_limit(150).env("REDIAL_CONCURRENCY", "40").spawn();
    worker.wait_ready().await;
    assert_eq!(names.call("cached", "good.test", &json!({})).await["status"], "ok");
    let hanging = ids("hanging", 8);
    for id in &hanging {
        names.dns.set(&format!("{id}.test"), NameAnswer::Silence);
        let more = json!({"connect_timeout_ms": 20_000, "retry": {"max_attempts": 1}});
        names.stage.queue.push(names.task(id, &format!("{id}.test"), &more).to_string()).await;
    }
    let all_asked = || async { hanging.iter().all(|id| names.dns.queries(&format!("{id}.test")) > 0).then_some(()) };
    eventually(SOON, all_asked).await;
    let result = names.call("waits", "good.test", &json!({"retry": {"max_attempts": 1}})).await;
    assert_eq!((result["status"].as_str(), attempts(&result)), (Some("ok"), 1), "{result}");
    assert!(counter(&worker, "redial_local_shortages_total").await > 0, "{}", worker.log());
    assert_eq!(counter(&worker, "redial_breakers_opened_total").await, 0);
}

#[tokio::test]
async fn of_a_names_addresses_only_those_that_may_be_reached_are_called() {
    let names = NamesStage::start().await;
    names.dns.set_addresses("mixed.test", &["10.0.0.1", "127.0.0.1", "169.254.169.254", "fd00::1"], 0);
    names.dns.set_addresses("inside.test", &["10.0.0.1", "169.254.169.254"], 0);
    names.dns.set_addresses("rebound.test", &["127.0.0.1"], 0);
    let _worker = names.ready_worker().await;
    let mixed = names.call("mixed", "mixed.test", &json!({"connect_timeout_ms": 1_000})).await;
    assert_eq!((mixed["status"].as_str(), attempts(&mixed)), (Some("ok"), 1), "{mixed}");
    assert_eq!(names.call("inside", "inside.test", &json!({})).await["reason"], "forbidden_target");
    assert_eq!(names.call("bound", "rebound.test", &json!({})).await["status"], "ok");
    names.dns.set_addresses("rebound.test", &["169.254.169.254"], 0);
    assert_eq!(names.call("rebound", "rebound.test", &json!({})).await["reason"], "forbidden_target");
    let unknown = names.call("unknown", "unknown.test", &json!({"retry": {"max_attempts": 2, "base_ms": 50}})).await;
    assert_eq!(attempts(&unknown), 2, "a name that does not exist is an attempt: {unknown}");
}

#[tokio::test]
async fn a_name_that_is_rebound_is_refused_wherever_a_task_can_name_one() {
    // Each connection is new, so that each call asks again.
    let upstream = Upstream::on_all_addresses(|request| match request.query("to") {
        Some(to) => Reply::status(307).header("location", to.to_owned()).header("connection", "close"),
        None => Reply::ok().header("connection", "close"),
    })
    .await;
    let names = NamesStage { stage: Stage::on(upstream).await, dns: DnsServer::start() };
    let port = names.stage.upstream.address().port();
    // The first name may be called; the second one was public when someone looked, and is not any more.
    names.dns.set_addresses("good.test", &["127.0.0.1"], 0);
    names.dns.set_addresses("rebound.test", &["127.0.0.1"], 0);
    let _worker = names.ready_worker().await;
    let rebound = format!("http://rebound.test:{port}/inside");
    let redirect = |to: &str| json!({"url": format!("http://good.test:{port}/?to={to}"), "redirects": 2});
    let call = |id: &str, task: Value| {
        let mut task = task;
        task["id"] = json!(id);
        names.stage.answer(task)
    };
    assert_eq!(call("before", redirect(&rebound)).await["status"], "ok");
    assert_eq!(names.stage.upstream.calls_to("/inside").len(), 1);
    for (n, addresses) in [
        &["169.254.169.254"][..],
        &["10.0.0.1", "fe80::1"],
        &["::ffff:169.254.169.254"],
        &["64:ff9b::a9fe:a9fe"],
        &["fd00:ec2::254"],
    ]
    .into_iter()
    .enumerate()
    {
        names.dns.set_addresses("rebound.test", addresses, 0);
        let direct = call(&format!("direct{n}"), json!({"url": rebound})).await;
        assert_eq!(direct["reason"], "forbidden_target", "{addresses:?}: {direct}");
        let redirected = call(&format!("redirected{n}"), redirect(&rebound)).await;
        assert_eq!(redirected["reason"], "forbidden_target", "{addresses:?}: {redirected}");
        let literal = call(&format!("literal{n}"), redirect("http://169.254.169.254/latest")).await;
        assert_eq!(literal["reason"], "forbidden_target", "{literal}");
    }
    // The result of a task whose callback is rebound is stored; its delivery is dead.
    let good = json!({"url": format!("http://good.test:{port}/ok"), "callback_url": rebound});
    assert_eq!(call("called_back", good).await["status"], "ok");
    let dead = || async {
        let dead = names.stage.queue.dead().await;
        dead.iter()
            .any(|letter| {
                format!("{letter:?}").contains("forbidden_target") && format!("{letter:?}").contains("rebound.test")
            })
            .then_some(())
    };
    eventually(SOON, dead).await;
    assert_eq!(names.stage.upstream.calls_to("/inside").len(), 1, "nothing reached it after it was rebound");
}

/// Lets a running process have this many descriptors, or as many as it may.
fn set_descriptor_limit(pid: u32, limit: Option<usize>) {
    let limit = limit.map_or_else(|| "1024:".to_owned(), |limit| format!("{limit}:"));
    let set = Command::new("prlimit").args([format!("--pid={pid}"), format!("--nofile={limit}")]).status();
    assert!(set.is_ok_and(|status| status.success()), "prlimit is part of util-linux");
}

#[tokio::test]
async fn a_lookup_for_which_no_descriptor_is_left_uses_no_attempt() {
    for servers in ["of the test", "system"] {
        let names = NamesStage::start().await;
        names.dns.set_addresses("localhost", &["127.0.0.1"], 0);
        let mut worker = names.worker();
        if servers == "system" {
            worker = worker.env("REDIAL_NAME_SERVERS", servers);
        }
        let worker = worker.spawn();
        worker.wait_ready().await;
        names.stage.queue.push(names.task("first", "127.0.0.1", &json!({})).to_string()).await;
        names.stage.queue.wait_result("first", SOON).await;
        set_descriptor_limit(worker.pid(), Some(5));
        let name = if servers == "system" { "localhost" } else { "good.test" };
        names.dns.set_addresses("good.test", &["127.0.0.1"], 0);
        let task = names.task("short", name, &json!({"retry": {"max_attempts": 1}}));
        names.stage.queue.push(task.to_string()).await;
        let is_told = || async { worker.log().contains("this machine is short of something").then_some(()) };
        eventually(SOON, is_told).await;
        assert!(worker.log().contains("a name lookup"), "{}", worker.log());
        set_descriptor_limit(worker.pid(), None);
        let result = names.stage.queue.wait_result("short", SOON).await;
        assert_eq!(result["status"], "ok", "{servers}: {result}");
        assert_eq!(attempts(&result), 1, "{servers}: {result}");
    }
}
