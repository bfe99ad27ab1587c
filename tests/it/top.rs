//! `redial top` on a real terminal, before a real fleet; and what else goes on counting.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use redial_tests::terminal::Terminal;
use redial_tests::{Cli, RedisServer, Reply, TestQueue, Upstream, Worker, eventually};
use serde_json::{Value, json};

/// For whatever comes within a few seconds on a machine that does nothing else.
const SOON: Duration = Duration::from_secs(40);
/// A small terminal.
const SMALL: (u16, u16) = (24, 80);

fn start(redis: &RedisServer, args: &[&str], more: &[(&str, &str)], size: (u16, u16)) -> Terminal {
    let variables = [&[("REDIS_URL", redis.url())], more].concat();
    Terminal::start(&Cli::new(redis).program(), &[&["top"], args].concat(), &variables, size)
}

/// An upstream that has lost one of the two things that it is asked for, and takes its time for a third.
async fn upstream() -> Upstream {
    Upstream::start(|request| match request.route() {
        "/missing" => Reply::status(404).json(&json!({"error": "no such order"})),
        "/slow" => Reply::ok().after(Duration::from_secs(300)),
        _ => Reply::ok(),
    })
    .await
}

/// A fleet with tasks in all states: done, dead, in hand, later, and behind a limit.
async fn busy(redis: &RedisServer, upstream: &Upstream) -> Worker {
    let worker = Worker::spawn(redis);
    let queue = TestQueue::new(redis, "default");
    let headers = json!({"authorization": "Bearer geheim"});
    let task =
        |id: &str, path: &str| json!({"id": id, "url": upstream.url(path), "headers": headers, "timeout_ms": 300_000});
    for n in 0..3 {
        queue.push(task(&format!("order-{n}"), "/missing").to_string()).await;
    }
    queue.push(task("good", "/").to_string()).await;
    queue.push(task("in-hand", "/slow").to_string()).await;
    let mut later = task("later", "/");
    later["delay_ms"] = json!(600_000);
    queue.push(later.to_string()).await;
    for n in 0..4 {
        let mut limited = task(&format!("limited-{n}"), "/slow");
        limited["limit"] = json!({"name": "two-at-a-time", "concurrency": 2});
        queue.push(limited.to_string()).await;
    }
    eventually(SOON, || async { (queue.dead().await.len() == 3).then_some(()) }).await;
    worker
}

#[tokio::test]
async fn a_small_terminal_shows_the_fleet_and_keys_steer_it() {
    let (redis, upstream) = (RedisServer::start().await, upstream().await);
    let worker = busy(&redis, &upstream).await;
    let host = upstream.url("").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let mut top = start(&redis, &[], &[], SMALL);
    // Everything that matters is in the first frames, once the worker has published what it counted.
    let shown = top
        .shows(
            &[
                "Queues (1)",
                "default",
                "Upstreams (1)",
                &host,
                "failing",
                "Why work waits (",
                "two-at-a-time",
                "Workers (1)",
                "default 3",
                "Limits (1)",
                "2 of 2 in flight",
                "Dead letters (1)",
                "rejected",
                "3 in all",
                "q: quit",
            ],
            SOON,
        )
        .await;
    assert!(top.is_full_screen() && top.has_colours(), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80) && shown.contains(" UTC"), "{shown}");

    top.type_keys("?").await;
    top.shows(&["redial top shows the fleet, live.", "pause or resume the queue", "Any key closes this."], SOON).await;
    top.type_keys("x").await;
    // The pane in focus says how it is sorted.
    top.shows(&[">Queues (1)  by QUEUE, rising"], SOON).await;
    top.type_keys("s").await;
    top.shows(&[">Queues (1)  by RATE/S, falling"], SOON).await;
    top.type_keys("r").await;
    top.shows(&[">Queues (1)  by RATE/S, rising"], SOON).await;
    top.type_keys("\t").await;
    top.shows(&[">Upstreams (1)", " Queues (1)"], SOON).await;

    // A queue is paused and resumed only after a confirmation.
    let paused = async || redis.cli(&["EXISTS", "redial:{default}:paused"]).await;
    top.type_keys("p").await;
    top.shows(&["choose a queue in the pane Queues"], SOON).await;
    top.type_keys("1p").await;
    top.shows(&["Pause the queue default? Workers finish what they hold. y/n"], SOON).await;
    top.type_keys("n").await;
    top.shows(&["nothing was changed"], SOON).await;
    assert_eq!(paused().await, "0");
    top.type_keys("p").await;
    top.shows(&["Pause the queue default?"], SOON).await;
    top.type_keys("y").await;
    top.shows(&["default is paused", "1 paused"], SOON).await;
    assert_eq!(paused().await, "1");
    top.type_keys("p").await;
    top.shows(&["Resume the queue default?"], SOON).await;
    top.type_keys("y").await;
    top.shows(&["default goes on"], SOON).await;
    assert_eq!(paused().await, "0");

    // A dead letter is opened, and shows no credentials.
    top.type_keys("6\r").await;
    let listed = top.shows(&["Dead letters of default: rejected at", "order-0", "order-1", "order-2"], SOON).await;
    assert!(listed.contains("404"), "{listed}");
    top.type_keys("j\r").await;
    let letter = top.shows(&["\"reason\"", "rejected"], SOON).await;
    assert!(!letter.contains("geheim"), "{letter}");
    top.type_keys("G").await;
    let end = top.shows(&["[redacted]"], SOON).await;
    assert!(end.contains("order-") && !end.contains("geheim"), "{end}");
    top.type_keys("\u{1b}").await;
    top.shows(&["Dead letters of default: rejected at"], SOON).await;
    top.type_keys("\u{1b}").await;
    top.shows(&[">Dead letters (1)  by LETTERS, falling"], SOON).await;

    // Redis goes away and comes back, the worker too.
    worker.kill9();
    redis.pause();
    top.shows(&["Redis is away, last seen"], SOON).await;
    assert!(top.text().contains("default"), "what was seen last stays: {}", top.text());
    redis.resume();
    top.shows(&["connected again"], SOON).await;
    top.type_keys("q").await;
    assert!(top.wait_exit(SOON).await.success());
    eventually(SOON, || async { (!top.is_full_screen() && top.has_cursor()).then_some(()) }).await;
}

/// Whether a terminal is as it was before: its screen, its cursor and how it treats what is typed. `panic_in`: where the program panics.
async fn is_restored_after(panic_in: &str, end: impl AsyncFnOnce(&mut Terminal, &Path), expected: &[&str]) {
    let redis = RedisServer::start().await;
    let _worker = Worker::builder(&redis).spawn();
    eventually(SOON, async || Cli::new(&redis).run(&["queues"]).await.stdout.contains("default").then_some(())).await;
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let script = format!(
        "before=$(stty -g); sh -c 'echo $$ > {pid}; exec {program} top'; code=$?; \
         if [ \"$before\" = \"$(stty -g)\" ]; then echo \"restored, code $code\"; else stty -a; fi",
        pid = pid.display(),
        program = Cli::new(&redis).program().display(),
    );
    // A backtrace would not fit the terminal.
    let panic = [("REDIAL_DEBUG_PANIC_IN_TOP", panic_in), ("RUST_BACKTRACE", "0")];
    let variables = [[("REDIS_URL", redis.url())].as_slice(), &panic].concat();
    let mut shell = Terminal::start(Path::new("/bin/sh"), &["-c", &script], &variables, SMALL);
    if panic_in != "observation" {
        shell.shows(&["Queues (1)", "default"], SOON).await;
        assert!(shell.is_full_screen() && !shell.has_cursor());
    }
    end(&mut shell, &pid).await;
    shell.shows(expected, SOON).await;
    assert!(!shell.is_full_screen() && shell.has_cursor());
    shell.wait_exit(SOON).await;
}

#[tokio::test]
async fn the_terminal_is_as_it_was_however_it_ends() {
    let kill = |signal: &'static str| {
        async move |_: &mut Terminal, pid: &Path| {
            let pid = std::fs::read_to_string(pid).unwrap();
            assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success());
        }
    };
    is_restored_after("", kill("-TERM"), &["restored, code 0"]).await;
    is_restored_after("", kill("-HUP"), &["restored, code 0"]).await;
    // In raw mode, Ctrl-C is a key like others.
    is_restored_after("", async |shell, _| shell.type_keys("\u{3}").await, &["restored, code 0"]).await;
}

#[tokio::test]
async fn a_panic_ends_it_shows_what_happened_and_leaves_the_terminal_as_it_was() {
    let panic = "REDIAL_DEBUG_PANIC_IN_TOP names this place";
    is_restored_after("key", async |shell, _| shell.type_keys("j").await, &[panic, "restored, code 101"]).await;
    let failed = [panic, "what a key asked for has failed", "restored, code 1"];
    is_restored_after("action", async |shell, _| shell.type_keys("py").await, &failed).await;
    let failed = [panic, "reading the numbers has failed", "restored, code 1"];
    is_restored_after("observation", async |_, _| (), &failed).await;
}

#[tokio::test]
async fn without_colours_every_state_is_a_word() {
    let (redis, upstream) = (RedisServer::start().await, upstream().await);
    let _worker = busy(&redis, &upstream).await;
    assert_eq!(Cli::new(&redis).run(&["pause", "default"]).await.status, 0);
    TestQueue::new(&redis, "default").push(json!({"id": "waits", "url": upstream.url("/")}).to_string()).await;
    let top = start(&redis, &["--interval", "1"], &[("NO_COLOR", "1")], (40, 120));
    let shown = top.shows(&[" paused", "failing", "rejected", "queue is paused"], SOON).await;
    assert!(!top.has_colours(), "{shown}");
}

#[tokio::test]
async fn one_frame_is_printed_without_a_terminal_and_a_live_view_is_refused() {
    let (redis, upstream) = (RedisServer::start().await, upstream().await);
    let _worker = busy(&redis, &upstream).await;
    let cli = Cli::new(&redis);
    let refused = cli.run(&["top"]).await;
    assert_eq!((refused.status, refused.stdout.as_str()), (1, ""));
    assert!(refused.stderr.contains("redial top needs a terminal: `redial top --once`"), "{}", refused.stderr);
    let refused = cli.run(&["--json", "top"]).await;
    assert!(refused.status == 1 && refused.stderr.contains("add --once"), "{}", refused.stderr);
    assert_eq!(cli.run(&["top", "--interval", "0"]).await.status, 2);

    let printed = eventually(SOON, || async {
        let printed = cli.run(&["top", "--once"]).await;
        (printed.status == 0 && printed.stdout.contains("failing")).then_some(printed.stdout)
    })
    .await;
    for text in
        ["Queues (1)", "default", "two-at-a-time", "2 of 2 in flight", "[##########]", "Dead letters (1)", "rejected"]
    {
        assert!(printed.contains(text), "{text}: {printed}");
    }
    assert!(!printed.contains('\x1b'), "{printed}");
    let json = cli.run(&["--json", "top", "--once", "default"]).await.stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    let (queue, dead) = (&json["queues"][0], &json["dead_letters"][0]);
    assert_eq!(
        (&queue["queue"], &queue["dead"], &dead["letters"]),
        (&json!("default"), &json!(3.0), &json!(3.0)),
        "{json}"
    );
    assert_eq!(
        (&json["limits"][0]["limit"], &json["limits"][0]["waiting"]),
        (&json!("two-at-a-time"), &json!(2.0)),
        "{json}"
    );
}

#[tokio::test]
async fn queues_are_listed_again_and_again() {
    let redis = RedisServer::start().await;
    let worker = Worker::spawn(&redis);
    worker.wait_ready().await;
    let mut watch = Cli::new(&redis).start(&["--json", "queues", "--watch=1"]);
    let mut lines = tokio::io::BufReader::new(watch.stdout.take().unwrap());
    let mut next = async || {
        let mut line = String::new();
        let read = tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line);
        tokio::time::timeout(SOON, read).await.unwrap().unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    assert_eq!(next().await["waiting"], 0);
    assert_eq!(Cli::new(&redis).run(&["pause", "default"]).await.status, 0);
    tokio::time::timeout(SOON, async { while next().await["paused"] != json!(true) {} }).await.unwrap();
    assert_eq!(Cli::new(&redis).run(&["queues", "--watch=0"]).await.status, 2);
    drop(watch);

    // On a terminal, each list takes the place of the one before.
    let program = Cli::new(&redis).program();
    let watch = Terminal::start(&program, &["queues", "--watch=1"], &[("REDIS_URL", redis.url())], SMALL);
    watch.shows(&["QUEUE", "default", "paused"], SOON).await;
    assert_eq!(Cli::new(&redis).run(&["resume", "default"]).await.status, 0);
    let is_replaced = |text: String| !text.contains("paused") && text.matches("QUEUE").count() == 1;
    eventually(SOON, || async { is_replaced(watch.text()).then_some(()) }).await;
}
