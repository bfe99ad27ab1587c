//! A queue's whole life on a Redis Cluster of three masters, wherever its slot lies: a script that touched two slots, or a
//! key that it did not declare in another, would be refused there.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use redial_core::consumer::{ClaimId, Completion, RescheduleReason, TakenBack, dead_letter_header};
use redial_core::queue::entry::Entry;
use redial_core::{Consumer, Db, Queue, QueueName, Reason, Status, TaskId, TaskResult, UnixMs, WorkerId};
use redial_tests::Cluster;
use redial_tests::RedisConnection;
use redis::{FromRedisValue, ToRedisArgs};

const NAMES: [&str; 12] = ["default", "critical", "mail", "bulk", "q/0", "q/1", "q/2", "q/3", "eu", "us", "a.b", "z_z"];
const TTL: Duration = Duration::from_secs(60);

/// One queue of the Cluster, its workers and raw commands.
struct Site {
    name: &'static str,
    queue: Queue,
    worker: Consumer,
    other: Consumer,
    wire: RedisConnection,
}

fn id(worker: &str, number: u64) -> ClaimId {
    ClaimId::new(&WorkerId::from_redis(worker.into()), number)
}

impl Site {
    fn new(db: &Db, name: &'static str, wire: &RedisConnection) -> Self {
        let queue = db.queue(QueueName::new(name).unwrap());
        let at = |worker: &str, lease| {
            let worker = WorkerId::from_redis(worker.into());
            Consumer::new(queue.clone(), worker, lease)
        };
        Self { name, worker: at("w", Duration::from_millis(1)), other: at("v", TTL), wire: wire.clone(), queue }
    }

    async fn ask<T: FromRedisValue>(&self, command: impl ToRedisArgs) -> T {
        let mut cmd = redis::Cmd::new();
        cmd.arg(command).query_async(&mut self.wire.clone()).await.unwrap()
    }

    /// A list in another slot than the queue.
    fn far(&self) -> String {
        let list = format!("answers of {}\n", self.name);
        assert!(!self.queue.keys().same_slot(&list));
        list
    }

    /// A list in the queue's slot.
    fn near(&self) -> String {
        format!("answers:{{{}}}", self.name)
    }

    fn answer(&self, entry: &Entry, reply_to: Option<String>) -> Completion {
        let id = TaskId::new(&String::from_utf8_lossy(&entry.raw)).unwrap();
        Completion {
            token: entry.token.clone(),
            result: self.result(&id),
            id,
            ttl: TTL,
            reply_to,
            last_entry: None,
            follow_ups: Vec::new(),
        }
    }

    fn result(&self, id: &TaskId) -> String {
        format!("{{\"id\":\"{id}\",\"queue\":\"{}\"}}", self.name)
    }

    async fn bury(&self, entry: &Entry, answer: Option<&Completion>) {
        let id = answer.map(|answer| answer.id.clone());
        let mut result = TaskResult::new(id, Status::Dead, UnixMs(1));
        result.reason = Some(Reason::Rejected);
        let dead_letter_header = dead_letter_header(&entry.header.serial, None, &result);
        let buried = self.worker.bury(&entry.token, &dead_letter_header, answer).await;
        assert!(buried.unwrap());
    }

    async fn live(&self) {
        let tasks = ["again", "far", "near", "dead", "nameless", "lost"];
        self.queue.enqueue(&tasks).await.unwrap();
        let entries = self.worker.claim(&id("w", 1), 10).await.unwrap().entries;
        let [again, far, near, dead, nameless, _lost] = entries.as_slice() else {
            panic!("{entries:?}");
        };
        assert!(self.worker.mark_started(&again.token, &again.header).await.unwrap());
        let due = self
            .worker
            .reschedule(&again.token, &again.header, Duration::ZERO, UnixMs(0), None, RescheduleReason::Retried)
            .await;
        assert!(due.unwrap().is_some());
        let answers = [self.answer(far, Some(self.far())), self.answer(near, Some(self.near()))];
        assert_eq!(self.worker.finish(&answers).await.unwrap(), [true, true]);
        self.queue.db().deliveries_done().await;
        self.bury(dead, Some(&self.answer(dead, Some(self.far())))).await;
        self.bury(nameless, None).await;
        self.queue.db().deliveries_done().await;
        self.results_are_there().await;

        tokio::time::sleep(Duration::from_millis(3)).await;
        let beat = self.other.heartbeat().await.unwrap();
        assert_eq!((beat.held, beat.undelivered), (0, 0));
        let [(worker, renewal)] = beat.leases.as_slice() else { panic!("{beat:?}") };
        assert_eq!(*worker, WorkerId::from_redis("w".into()));
        assert_eq!(self.other.reap(worker, renewal).await.unwrap(), TakenBack { moved: 1, remaining: 0 });
        self.letters_go().await;
        self.the_rest_goes_back_and_is_finished().await;
    }

    async fn results_are_there(&self) {
        for name in ["far", "near", "dead"] {
            let id = TaskId::new(name).unwrap();
            let result = self.queue.result(&id).await.unwrap();
            assert_eq!(result, Some(self.result(&id)), "{}", self.name);
        }
        let ids = |names: &[&str]| -> Vec<String> {
            let id = |name: &&str| self.result(&TaskId::new(name).unwrap());
            names.iter().map(id).collect()
        };
        let far: Vec<String> = self.ask(("LRANGE", self.far(), 0, -1)).await;
        assert_eq!(far, ids(&["dead", "far"]), "{}", self.name);
        let near: Vec<String> = self.ask(("LRANGE", self.near(), 0, -1)).await;
        assert_eq!(near, ids(&["near"]), "{}", self.name);
        for list in [self.far(), self.near()] {
            let ttl: i64 = self.ask(("PTTL", list)).await;
            assert!(ttl > 0);
        }
    }

    async fn letters_go(&self) {
        let letters = self.queue.dead_page(0).await.unwrap();
        let named = |raw: &[u8]| letters.iter().find(|dead_letter_header| dead_letter_header.raw == raw).unwrap();
        assert!(self.queue.replay(named(b"dead")).await.unwrap());
        assert!(self.queue.drop_dead(named(b"nameless")).await.unwrap());
        let result = self.queue.result(&TaskId::new("dead").unwrap()).await;
        assert_eq!(result.unwrap(), None);
    }

    async fn the_rest_goes_back_and_is_finished(&self) {
        let first = self.other.claim(&id("v", 1), 10).await.unwrap().entries;
        let again = self.other.claim(&id("v", 1), 10).await.unwrap().entries;
        assert_eq!(first.len(), 3);
        for (first, again) in first.iter().zip(&again) {
            assert_eq!((&first.token, &first.raw), (&again.token, &again.raw));
        }
        let stray = [first[0].token.clone()];
        assert_eq!(self.other.release_strays(&stray).await.unwrap(), TakenBack { moved: 1, remaining: 2 });
        assert_eq!(self.other.release().await.unwrap(), TakenBack { moved: 2, remaining: 0 });
        let rest = self.other.claim(&id("v", 2), 10).await.unwrap().entries;
        let mut raws: Vec<&[u8]> = rest.iter().map(|entry| &*entry.raw).collect();
        raws.sort_unstable();
        assert_eq!(raws, [&b"again"[..], b"dead", b"lost"]);
        let answers: Vec<Completion> = rest.iter().map(|e| self.answer(e, None)).collect();
        assert_eq!(self.other.finish(&answers).await.unwrap(), [true; 3]);
        let counts = self.queue.counts().await.unwrap();
        assert_eq!(counts, redial_core::queue::Counts::default());
    }
}

async fn sites(cluster: &Cluster) -> Vec<Site> {
    let db = Db::open(cluster.url(), "redial").unwrap();
    let wire = RedisConnection::open(cluster.url()).await.unwrap();
    let mut nodes = BTreeSet::new();
    for name in NAMES {
        let key = format!("redial:{{{name}}}");
        nodes.insert(cluster.node_of(&key).await.port());
    }
    assert_eq!(nodes.len(), 3, "the names do not reach every master");
    let site = |name| Site::new(&db, name, &wire);
    NAMES.into_iter().map(site).collect()
}

#[tokio::test]
async fn a_queue_lives_its_whole_life_on_whichever_master_its_slot_lies() {
    let cluster = Cluster::start(3).await;
    for site in sites(&cluster).await {
        site.live().await;
    }
}

#[tokio::test]
async fn a_push_wakes_a_worker_on_every_master() {
    let cluster = Cluster::start(3).await;
    for site in sites(&cluster).await {
        let (woken, pushed) =
            tokio::join!(site.worker.wait_for_push(Duration::from_secs(10)), site.queue.enqueue(&["a"]));
        assert!(woken.unwrap());
        pushed.unwrap();
        let in_woken: u64 = site.ask(("LLEN", &site.queue.keys().handoff)).await;
        assert_eq!(in_woken, 1);
        site.worker.forward_wakeup().await.unwrap();
        let claimed = site.worker.claim(&id("w", 1), 1).await.unwrap();
        assert_eq!(claimed.entries[0].raw, b"a");
    }
}

#[tokio::test]
async fn a_reply_that_could_not_be_delivered_is_delivered_by_another_worker() {
    let cluster = Cluster::start(3).await;
    for site in sites(&cluster).await {
        let replies = &site.queue.keys().replies;
        let far = site.far();
        for (token, list) in [("w:1:1", &far), ("w:1:2", &"no list".to_owned())] {
            let () = site.ask(("HSET", replies, token, format!("60000 {{}}\n{list}"))).await;
        }
        let () = site.ask(("SET", "no list", "someone's")).await;
        assert_eq!(site.other.heartbeat().await.unwrap().undelivered, 2);
        for token in site.other.undelivered().await.unwrap() {
            site.other.queue().deliver_reply(&token).await.unwrap();
            // Another worker was faster: nothing more to do.
            site.other.queue().deliver_reply(&token).await.unwrap();
        }
        let delivered: Vec<String> = site.ask(("LRANGE", &far, 0, -1)).await;
        assert_eq!(delivered, ["{}"]);
        assert_eq!(site.ask::<i64>(("PTTL", "no list")).await, -1);
        assert_eq!(site.other.heartbeat().await.unwrap().undelivered, 0);
    }
}

#[tokio::test]
async fn a_reply_list_on_a_node_that_hangs_holds_up_no_result() {
    /// A command to a node that hangs takes 5 s.
    const WITHOUT_WAITING: Duration = Duration::from_secs(4);
    let cluster = Cluster::start(3).await;
    let sites = sites(&cluster).await;
    let mut far = None;
    for site in &sites {
        let (of_queue, of_list) =
            (cluster.node_of(&site.queue.keys().replies).await, cluster.node_of(&site.far()).await);
        far = far.or((of_queue.port() != of_list.port()).then_some((site, of_list)));
    }
    let (site, node) = far.expect("some list is on another node than its queue");
    site.queue.enqueue(&["a", "b"]).await.unwrap();
    let entries = site.worker.claim(&id("w", 1), 10).await.unwrap().entries;
    node.pause();
    let begun = Instant::now();
    let answers: Vec<Completion> = entries.iter().map(|entry| site.answer(entry, Some(site.far()))).collect();
    assert_eq!(site.worker.finish(&answers).await.unwrap(), [true, true]);
    assert!(begun.elapsed() < WITHOUT_WAITING, "{:?}", begun.elapsed());
    node.resume();
    site.queue.db().deliveries_done().await;
    // What could not be delivered in time is kept.
    for token in site.other.undelivered().await.unwrap() {
        site.other.queue().deliver_reply(&token).await.unwrap();
    }
    let delivered: BTreeSet<String> =
        site.ask::<Vec<String>>(("LRANGE", site.far(), 0, -1)).await.into_iter().collect();
    assert_eq!(delivered, answers.into_iter().map(|answer| answer.result).collect());
}
