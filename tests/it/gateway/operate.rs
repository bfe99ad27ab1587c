//! What operators see and change over HTTP: queues, statistics, limits, tasks, dead letters, schedules, workers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redial_core::{Db, QueueName};
use redial_tests::{Cli, Reply, Upstream, eventually};
use serde_json::{Value, json};

use super::{FrontDoor, Headers, SOON, token_block};

impl FrontDoor {
    /// A request that succeeds, and its answer.
    async fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.gateway.send(method, path, &[], body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()
    }

    async fn read(&self, path: &str) -> Value {
        self.ask("GET", path, &Value::Null).await
    }

    /// Pushes tasks with these ids that the upstream refuses for good, and waits until they are dead.
    async fn dead(&self, ids: impl Iterator<Item = String>, path: &str) {
        let tasks: Vec<Value> = ids
            .map(|id| {
                let mut task = self.task(path);
                task["id"] = json!(id);
                task
            })
            .collect();
        let answer = self.gateway.send("POST", "/v1/tasks?wait=60", &[], json!(tasks).to_string().as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn statistics_tell_attempts_by_upstream_and_status_and_how_tasks_ended() {
    let was_limited = AtomicBool::new(false);
    let upstream = Upstream::start(move |request| match request.route() {
        "/limited" if !was_limited.swap(true, Ordering::Relaxed) => Reply::status(429).header("retry-after", "0"),
        "/gone" => Reply::status(404),
        _ => Reply::ok(),
    })
    .await;
    let door = FrontDoor::before(upstream, "").await;
    let _worker = door.worker();
    for path in ["/good", "/good", "/limited", "/gone"] {
        let task = door.task(path).to_string();
        let answer = door.gateway.send("POST", "/v1/tasks?wait=60", &[], task.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let statistics = eventually(SOON, async || {
        let statistics = door.read("/v1/statistics?window=five_minutes").await;
        (statistics["dead"]["rejected"] == 1 && statistics["completed"]["call"] == 3).then_some(statistics)
    })
    .await;
    let upstreams = statistics["upstreams"].as_array().unwrap();
    assert_eq!(upstreams.len(), 1, "{statistics}");
    let host = door.upstream.url("/").replace("http://", "").replace('/', "");
    let seen = &upstreams[0];
    assert_eq!(seen["upstream"], host, "{statistics}");
    assert_eq!((&seen["attempts"], &seen["good"], &seen["rate_limited"]), (&json!(5), &json!(3), &json!(1)));
    assert_eq!(seen["statuses"], json!({"200": 3, "404": 1, "429": 1}));
    assert!(seen["p50_ms"].is_u64() && seen["p99_ms"].as_u64() >= seen["p50_ms"].as_u64(), "{seen}");
    assert_eq!(seen["retries"], 1);
    let attempts: u64 =
        statistics["steps"].as_array().unwrap().iter().filter_map(|step| step["attempts"].as_u64()).sum();
    assert_eq!(attempts, 5);
    // The library reads the same.
    let db = Db::open(door.redis.url(), "redial").unwrap();
    let sum = db.queue(QueueName::new("default").unwrap()).statistics().await.unwrap();
    assert_eq!(sum.upstreams[&host].attempts(), 5);
    assert_eq!(door.gateway.send("GET", "/v1/statistics?window=year", &[], b"").await.status, 400);
}

#[tokio::test]
async fn workers_that_count_nothing_publish_nothing() {
    let door = FrontDoor::new("").await;
    let worker = redial_tests::Worker::builder(&door.redis).env("REDIAL_STATISTICS", "false").spawn();
    let task = door.task("/ok").to_string();
    assert_eq!(door.gateway.send("POST", "/v1/tasks?wait=60", &[], task.as_bytes()).await.status, 200);
    // A worker that ends publishes what it has counted.
    worker.term();
    worker.wait_exit(SOON).await;
    assert_eq!(door.redis.cli(&["KEYS", "redial:*statistics"]).await.trim(), "");
}

#[tokio::test]
async fn dead_letters_are_grouped_searched_shown_replayed_and_dropped() {
    let door = FrontDoor::new("").await;
    let _worker = door.worker();
    door.dead((0..5).map(|n| format!("first-{n}")), "/status/404").await;
    door.dead((0..3).map(|n| format!("second-{n}")), "/flaky/1/400").await;
    let path = "/v1/queues/default/dead";
    let groups = door.read(&format!("{path}/groups")).await;
    assert_eq!(
        (&groups["dead"], &groups["counted"], &groups["groups"][0]["letters"]),
        (&json!(6), &json!(6), &json!(6))
    );
    assert_eq!(groups["groups"][0]["reason"], "rejected", "{groups}");
    let found = door.read(&format!("{path}?text=FIRST-3")).await;
    let letter = found["letters"][0].clone();
    assert_eq!((found["letters"].as_array().unwrap().len(), &letter["id"]), (1, &json!("first-3")), "{found}");

    // Pages go back from the newest, without a gap.
    let (mut ids, mut before) = (Vec::new(), String::new());
    loop {
        let page = door.read(&format!("{path}?limit=2{before}")).await;
        ids.extend(page["letters"].as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()));
        match page["next"].as_u64() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6, "{ids:?}");

    let name = letter["letter"].as_str().unwrap();
    let shown = door.read(&format!("{path}/{name}")).await;
    assert_eq!((&shown["id"], &shown["http_status"]), (&json!("first-3"), &json!(404)));
    let dropped = door.ask("DELETE", &format!("{path}/{name}"), &Value::Null).await;
    assert_eq!(dropped["dropped"], true);
    assert_eq!(door.gateway.send("GET", &format!("{path}/{name}"), &[], b"").await.status, 404);
    let second = door.read(&format!("{path}?text=second")).await["letters"][0].clone();
    let replay = format!("{path}/{}/replay", second["letter"].as_str().unwrap());
    assert_eq!(door.ask("POST", &replay, &Value::Null).await["replayed"], true);
    let answered = format!("/v1/tasks/{}?wait=60", second["id"].as_str().unwrap());
    assert_eq!(door.read(&answered).await["status"], "ok");
    for wrong in ["nonsense", "9-none", "-", "99999999999999999999-x"] {
        let answer = door.gateway.send("GET", &format!("{path}/{wrong}"), &[], b"").await;
        assert!(matches!(answer.status, 400 | 404), "{wrong}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_job_replays_the_letters_that_it_names_at_its_rate_and_can_be_cancelled() {
    let door = FrontDoor::new("").await;
    let worker = door.worker();
    // Not hexadecimal, as serials are, which the text is looked for in as well.
    door.dead((0..30).map(|n| format!("wanted-{n}")), "/status/404").await;
    door.dead((0..5).map(|n| format!("other-{n}")), "/status/410").await;
    drop(worker);
    let path = "/v1/queues/default/dead-jobs";
    let began = std::time::Instant::now();
    let asked = json!({"action": "replay", "text": "wanted-", "per_second": 20});
    let job = door.ask("POST", path, &asked).await;
    assert_eq!((&job["state"], &job["letters"]), (&json!("running"), &json!(35)));
    let done = eventually(SOON, async || {
        let jobs = door.read(path).await;
        (jobs["jobs"][0]["state"] == "done").then(|| jobs["jobs"][0].clone())
    })
    .await;
    assert_eq!((&done["done"], &done["looked_at"]), (&json!(30), &json!(35)), "{done}");
    // The first goes at once, and then one each 50 ms.
    assert!(began.elapsed() >= Duration::from_millis(29 * 50), "{:?}", began.elapsed());
    let queues = door.read("/v1/queues").await;
    assert_eq!((&queues["queues"][0]["waiting"], &queues["queues"][0]["dead"]), (&json!(30), &json!(5)), "{queues}");

    let slow = door.ask("POST", path, &json!({"action": "drop", "per_second": 0.01})).await;
    let cancel = format!("{path}/{}", slow["job"]);
    door.ask("DELETE", &cancel, &Value::Null).await;
    eventually(SOON, async || (door.read(path).await["jobs"][0]["state"] == "cancelled").then_some(())).await;
    assert!(door.read("/v1/queues").await["queues"][0]["dead"].as_u64() >= Some(4));
    for wrong in [
        json!({"action": "replay"}),
        json!({"action": "burn", "per_second": 1}),
        json!({"action": "drop", "per_second": 0}),
    ] {
        let answer = door.gateway.send("POST", path, &[], wrong.to_string().as_bytes()).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_task_tells_its_story_with_what_belongs_to_it() {
    let upstream = Upstream::start(|request| match (request.route(), request.nth) {
        ("/flaky", 0) => Reply::status(503),
        _ => Reply::ok().json(&json!({"ok": true})),
    })
    .await;
    let door = FrontDoor::before(upstream, "").await;
    let _worker = door.worker();
    let mut task = door.task("/flaky");
    task["id"] = json!("a");
    task["headers"] = json!({"authorization": "Bearer of-the-producer"});
    task["then"] = json!({"url": door.upstream.url("/next")});
    task["callback_url"] = json!(door.upstream.url("/callback"));
    assert_eq!(door.gateway.send("POST", "/v1/tasks?wait=60", &[], task.to_string().as_bytes()).await.status, 200);
    let story = eventually(SOON, async || {
        let story = door.read("/v1/tasks/a/story").await;
        let names: Vec<&str> =
            story["events"].as_array().unwrap().iter().filter_map(|event| event["event"].as_str()).collect();
        (names == ["queued", "started", "attempt_failed", "waiting", "started", "done"]).then(|| story.clone())
    })
    .await;
    assert_eq!((&story["state"], &story["result"]["http_status"]), (&json!("complete"), &json!(200)));
    let next = door.read("/v1/tasks/a.then/story").await;
    assert_eq!(next["links"]["parent"], "a", "{next}");

    let mut waiting = door.task("/flaky");
    waiting["id"] = json!("b");
    waiting["delay_ms"] = json!(600_000);
    for (field, value) in
        [("then", &task["then"]), ("callback_url", &task["callback_url"]), ("headers", &task["headers"])]
    {
        waiting[field] = value.clone();
    }
    door.gateway.send("POST", "/v1/tasks", &[], waiting.to_string().as_bytes()).await;
    let story = eventually(SOON, async || {
        let story = door.read("/v1/tasks/b/story").await;
        (story["state"] == "scheduled").then_some(story)
    })
    .await;
    assert_eq!(story["links"], json!({"parent": null, "next": "b.then", "delivery": "b.callback"}));
    assert_eq!(story["task"]["headers"]["authorization"], "[redacted]", "{story}");
    assert_eq!(door.gateway.send("GET", "/v1/tasks/none/story", &[], b"").await.status, 404);
}

#[tokio::test]
async fn what_waits_is_told_by_cause_and_listed_and_limits_are_set_and_reset() {
    let door = FrontDoor::new("").await;
    let _worker = door.worker();
    let set = door.ask("PUT", "/v1/limits/narrow", &json!({"rate": 1, "per_ms": 600_000, "burst": 1})).await;
    assert_eq!((&set["defined_by"], &set["rate"]), (&json!("set"), &json!(1.0)));
    for n in 0..5 {
        let mut task = door.task("/ok");
        task["id"] = json!(format!("t{n}"));
        task["limit"] = json!("narrow");
        door.gateway.send("POST", "/v1/tasks", &[], task.to_string().as_bytes()).await;
    }
    let waits = eventually(SOON, async || {
        let waits = door.read("/v1/queues/default/waits").await;
        (waits["lists"][0]["tasks"] == 4).then_some(waits)
    })
    .await;
    assert_eq!((&waits["lists"][0]["for"], &waits["lists"][0]["name"]), (&json!("limit"), &json!("narrow")), "{waits}");
    let mut one_of_them = String::new();
    for path in ["tasks?state=parked", "tasks?state=parked&for=limit&name=narrow"] {
        let listed = door.read(&format!("/v1/queues/default/{path}")).await;
        assert_eq!(listed["tasks"].as_array().unwrap().len(), 4, "{path}: {listed}");
        assert_eq!(listed["tasks"][0]["waits_for"], json!({"kind": "limit", "name": "narrow"}));
        listed["tasks"][0]["id"].as_str().unwrap().clone_into(&mut one_of_them);
    }
    assert_eq!(door.read("/v1/limits").await["limits"][0]["waiting"], 4);
    assert_eq!(door.ask("DELETE", &format!("/v1/tasks/{one_of_them}"), &Value::Null).await["cancelled"], true);
    door.ask("POST", "/v1/limits/narrow/reset", &Value::Null).await;
    assert_eq!(door.ask("DELETE", "/v1/limits/narrow", &Value::Null).await["unset"], true);
    for (method, path, body, status) in [
        ("POST", "/v1/limits/none/reset", "", 404),
        ("GET", "/v1/limits/none", "", 404),
        ("PUT", "/v1/limits/x", "{}", 400),
        ("PUT", "/v1/limits/x", "{\"rate\": -1}", 400),
        ("GET", "/v1/queues/default/tasks?state=lost", "", 400),
        ("GET", "/v1/queues/default/tasks?limit=-1", "", 400),
        ("GET", "/v1/queues/default/tasks?state=parked&for=luck", "", 400),
    ] {
        let answer = door.gateway.send(method, path, &[], body.as_bytes()).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    }
}

#[tokio::test]
async fn queues_are_paused_and_resumed_and_schedules_and_workers_are_listed() {
    let door = FrontDoor::new("").await;
    let worker = door.worker();
    worker.wait_ready().await;
    let cli = Cli::new(&door.redis);
    let task = door.task("/ok").to_string();
    assert_eq!(cli.run(&["schedule", "add", "nightly", "0 3 * * *", &task]).await.status, 0);
    let schedules = door.read("/v1/queues/default/schedules").await;
    assert_eq!(
        (&schedules["schedules"][0]["name"], &schedules["schedules"][0]["tz"]),
        (&json!("nightly"), &json!("UTC"))
    );
    let removed = door.ask("DELETE", "/v1/queues/default/schedules/nightly", &Value::Null).await;
    assert_eq!(removed["removed"], true);

    assert_eq!(door.ask("POST", "/v1/queues/default/pause", &Value::Null).await["changed"], true);
    assert_eq!(door.read("/v1/queues").await["queues"][0]["paused"], true);
    assert_eq!(door.ask("POST", "/v1/queues/default/resume", &Value::Null).await["changed"], true);
    let workers = door.read("/v1/workers").await;
    assert_eq!(
        (&workers["workers"][0]["gone"], &workers["workers"][0]["queues"][0]["queue"]),
        (&json!(false), &json!("default"))
    );
}

#[tokio::test]
async fn a_token_changes_what_it_may_and_a_tenant_sees_no_one_elses_tasks() {
    let settings = [
        token_block("reader", "access = \"read\""),
        token_block("operator", "access = \"operate\""),
        token_block("tenant", "access = \"operate\"\ntenant = \"acme\""),
        token_block("narrow", "access = \"operate\"\nqueues = [\"other\"]"),
    ]
    .concat();
    let door = FrontDoor::new(&settings).await;
    let bearer = |name: &str| format!("Bearer token-of-{name}");
    let changes = [
        ("POST", "/v1/queues/default/pause", ""),
        ("POST", "/v1/queues/default/resume", ""),
        ("POST", "/v1/queues/default/dead/1-x/replay", ""),
        ("DELETE", "/v1/queues/default/dead/1-x", ""),
        ("POST", "/v1/queues/default/dead-jobs", "{\"action\":\"drop\",\"per_second\":1}"),
        ("DELETE", "/v1/queues/default/dead-jobs/1", ""),
        ("DELETE", "/v1/queues/default/schedules/x", ""),
        ("PUT", "/v1/limits/x", "{\"rate\":1}"),
        ("DELETE", "/v1/limits/x", ""),
        ("POST", "/v1/limits/x/reset", ""),
    ];
    let reads = [
        "/v1/queues",
        "/v1/statistics",
        "/v1/batches",
        "/v1/workers",
        "/v1/limits",
        "/v1/breakers",
        "/v1/queues/default/tasks",
        "/v1/queues/default/waits",
        "/v1/queues/default/dead",
        "/v1/queues/default/dead/groups",
        "/v1/queues/default/dead-jobs",
        "/v1/queues/default/schedules",
    ];
    let status = async |method: &str, path: &str, name: &str, body: &str| {
        let token = bearer(name);
        let headers: Headers = if name.is_empty() { &[] } else { &[("authorization", token.as_str())] };
        door.gateway.send(method, path, headers, body.as_bytes()).await.status
    };
    for (method, path, body) in changes {
        for (name, expected) in [("", 401), ("unknown", 401), ("reader", 403), ("tenant", 403), ("narrow", 403)] {
            assert_eq!(status(method, path, name, body).await, expected, "{method} {path} {name}");
        }
        assert!(matches!(status(method, path, "operator", body).await, 200 | 404), "{method} {path}");
    }
    for path in reads {
        for (name, expected) in [("", 401), ("tenant", 403), ("reader", 200), ("operator", 200)] {
            assert_eq!(status("GET", path, name, "").await, expected, "{path} {name}");
        }
    }
    assert_eq!(status("GET", "/v1/queues/default/dead", "narrow", "").await, 403);
    assert_eq!(status("GET", "/v1/queues/other/dead", "narrow", "").await, 200);
    assert_eq!(status("GET", "/v1/limits", "narrow", "").await, 403);
    // The page holds no data, so that it can ask for the token.
    for path in ["/", "/dashboard/app.js"] {
        assert_eq!(status("GET", path, "", "").await, 200, "{path}");
    }
}

#[tokio::test]
async fn other_pages_can_neither_change_nor_frame_nor_read_anything() {
    let door = FrontDoor::new("").await;
    for headers in [&[("origin", "https://evil.example")][..], &[("host", "evil.example")], &[("origin", "null")]] {
        for (method, path) in [
            ("POST", "/v1/queues/default/pause"),
            ("PUT", "/v1/limits/x"),
            ("DELETE", "/v1/queues/default/dead/1-x"),
            ("GET", "/"),
        ] {
            let answer = door.gateway.send(method, path, headers, b"{\"rate\":1}").await;
            assert!(matches!(answer.status, 403 | 421), "{method} {path} {headers:?}: {}", answer.status);
        }
    }
    let page = door.gateway.send("GET", "/", &[], b"").await;
    let policy = page.header("content-security-policy");
    for rule in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(rule), "{policy}");
    }
    assert_eq!((page.header("x-content-type-options"), page.header("access-control-allow-origin")), ("nosniff", ""));
    assert_eq!(door.gateway.send("GET", "/dashboard/nothing.js", &[], b"").await.status, 404);
}
