//! Callers that wait for results get them as soon as they exist, without polling.

use std::time::{Duration, Instant};

use redial::{Call, Client};
use redial_core::TaskId;
use redial_tests::{Cli, RedisServer, TestQueue, Upstream, Worker, eventually};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_thousand_waiters_are_notified_at_once_without_polling() {
    const WAITERS: usize = 1_000;
    let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
    let client = Client::open(redis.url(), "default").unwrap();
    let mut waiters = Vec::new();
    for n in 0..WAITERS {
        let client = client.clone();
        let id = TaskId::new(&format!("t{n}")).unwrap();
        waiters.push(tokio::spawn(async move {
            let answered = client.wait(&id, Duration::from_secs(120)).await.unwrap().unwrap();
            (Instant::now(), redial_core::UnixMs::local_now(), answered.result().unwrap().finished_at_ms)
        }));
    }
    let all_wait = || async {
        let asked = redis.cli(&["HLEN", "redial:{default}:waiters"]).await;
        (asked.trim() == WAITERS.to_string()).then_some(())
    };
    eventually(SOON, all_wait).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = redis.info_number("total_commands_processed").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let commands = redis.info_number("total_commands_processed").await - before;
    assert!(commands < 50, "{commands} commands while a thousand waited");

    let _worker = Worker::spawn(&redis);
    let queue = TestQueue::new(&redis, "default");
    for part in 0..WAITERS / 25 {
        // Not all at once, because that would measure the speed of the machine.
        let part = part * 25..(part + 1) * 25;
        queue.push_all(part.map(|n| format!(r#"{{"id":"t{n}","url":"{}"}}"#, upstream.url("/echo")))).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let mut late = Vec::new();
    for waiter in waiters {
        let (_, received, finished) = waiter.await.unwrap();
        late.push(received.since(finished));
    }
    late.sort_unstable();
    assert!(late[WAITERS * 99 / 100] < 2_000, "{late:?}");
}

#[tokio::test]
async fn a_call_enqueued_with_the_library_can_be_awaited() {
    let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
    let _worker = Worker::spawn(&redis);
    let client = Client::open(redis.url(), "default").unwrap();
    let call = Call::post(upstream.url("/echo")).json(&serde_json::json!({"text": "hi"})).header("Accept", "*/*");
    let answer = client.enqueue_and_wait(call, SOON).await.unwrap().unwrap();
    assert_eq!(answer.result().unwrap().http_status, Some(200));
    // Results that already exist are returned too.
    assert_eq!(client.wait(&answer.id, SOON).await.unwrap(), Some(answer));

    let calls = (0..300).map(|n| Call::get(upstream.url("/echo")).meta(&n));
    let mut answers = client.enqueue_all_and_wait(calls).await.unwrap();
    let mut came = 0;
    while let Some(answer) = tokio::time::timeout(SOON, answers.next()).await.unwrap() {
        assert_eq!(answer.result().unwrap().status, redial_core::Status::Ok);
        came += 1;
    }
    assert_eq!((came, answers.outstanding().len()), (300, 0));
    let nobody = TaskId::new("nobody").unwrap();
    assert_eq!(client.wait(&nobody, Duration::from_millis(50)).await.unwrap(), None);
}

#[tokio::test]
async fn redial_wait_prints_results_as_they_arrive_and_names_missing_ones() {
    let (redis, upstream) = (RedisServer::start().await, Upstream::unruly().await);
    let (cli, queue) = (Cli::new(&redis), TestQueue::new(&redis, "default"));
    queue.push(format!(r#"{{"id":"a","url":"{}"}}"#, upstream.url("/echo"))).await;
    let waiting = tokio::spawn({
        let cli = cli.clone();
        async move { cli.run(&["wait", "a"]).await }
    });
    let _worker = Worker::spawn(&redis);
    let output = waiting.await.unwrap();
    assert_eq!((output.status, output.stdout.lines().count()), (0, 1), "{}", output.stderr);
    assert!(output.stdout.contains("\"status\":\"ok\""), "{}", output.stdout);
    let output = cli.run(&["wait", "a", "nobody", "--timeout", "1"]).await;
    assert_eq!((output.status, output.stdout.lines().count()), (3, 1));
    assert!(output.stderr.contains("nobody: no result in queue default in time"), "{}", output.stderr);
}
