//! dead_page.lua: dead letters without their tasks.

use std::time::Duration;

use redial_core::queue::dead_groups::GroupCounts;
use redial_core::script::dead_page::DeadPage;
use redial_core::{Db, QueueName, UnixMs};
use redial_tests::RedisServer;

use super::Desk;

fn page(skip: usize, max_letters: usize, max_bytes: usize) -> DeadPage<'static> {
    DeadPage { dead: "dead", skip, max_letters, max_bytes }
}

#[tokio::test]
async fn letters_are_listed_with_where_their_calls_went_and_without_their_tasks() {
    let desk = Desk::new().await;
    let header =
        |serial: &str| format!(r#"{{"serial":"{serial}","died_of":"rejected","why":"HTTP 404","id":"{serial}"}}"#);
    for (at, serial, task) in [
        (1, "a", r#"{"url":"https://API.example.com/x?y=1"}"#.to_owned()),
        (2, "b", r#"{"body":{"url":"http://wrong/"},"url":"http://user:pw@host:8080/"}"#.to_owned()),
        (3, "c", "not JSON".to_owned()),
        (4, "d", format!(r#"{{"url":"http://large/","body":"{}"}}"#, "x".repeat(20_000))),
        (5, "e", r#"{"url":7}"#.to_owned()),
    ] {
        let () = desk.ask(("ZADD", "dead", at, format!("{}\n{task}", header(serial)))).await;
    }
    let letters = desk.run(&page(0, 10, 1 << 20)).await.0;
    let seen: Vec<(u64, &str, &str)> =
        letters.iter().map(|letter| (letter.at.0, letter.serial.as_str(), letter.upstream.as_str())).collect();
    let expected =
        [(1, "a", "api.example.com:443"), (2, "b", "host:8080"), (3, "c", ""), (4, "d", "large:80"), (5, "e", "")];
    assert_eq!(seen, expected);
    assert!(letters.iter().all(|letter| letter.reason == "rejected" && letter.error == "HTTP 404"), "{letters:?}");
    assert!(letters[3].bytes > 20_000);

    // In pages: by number, and by bytes.
    assert_eq!(desk.run(&page(1, 2, 1 << 20)).await.0.len(), 2);
    assert_eq!(desk.run(&page(3, 10, 1_000)).await.0.len(), 1);
    assert_eq!(desk.run(&page(5, 10, 1 << 20)).await.0, []);
}

#[tokio::test]
async fn groups_are_counted_from_the_newest_letter_on_and_say_if_time_ended_before_the_oldest() {
    let redis = RedisServer::start().await;
    let mut connection = redis.connection().await;
    let mut add = redis::cmd("ZADD");
    add.arg("redial:{default}:dead");
    for at in 1..=250_u64 {
        let reason = if at <= 150 { "expired" } else { "rejected" };
        let header = format!(r#"{{"serial":"s:1:{at}","reason":"{reason}"}}"#);
        add.arg(at).arg(format!("{header}\n{{\"url\":\"http://h/\"}}"));
    }
    let () = add.query_async(&mut connection).await.unwrap();
    let queue = Db::open(redis.as_ref(), "redial").unwrap().queue(QueueName::new("default").unwrap());
    for (within, counted, groups) in [
        (Duration::ZERO, 100, vec![("rejected", 100, 151, 250)]),
        (Duration::from_secs(60), 250, vec![("expired", 150, 1, 150), ("rejected", 100, 151, 250)]),
    ] {
        let counts = GroupCounts::default().of(&queue, within).await.unwrap();
        let seen = counts.groups.iter().map(|group| (&*group.reason, group.letters, group.oldest.0, group.newest.0));
        assert_eq!(seen.collect::<Vec<_>>(), groups);
        assert_eq!((counts.counted, counts.dead, counts.is_partial()), (counted, 250, counted < 250));
    }
}

#[tokio::test]
async fn a_letter_that_redial_did_not_write_is_listed_by_its_time() {
    let desk = Desk::new().await;
    let () = desk.ask(("ZADD", "dead", 9, "no header")).await;
    let letters = desk.run(&page(0, 10, 1 << 20)).await.0;
    assert_eq!((letters.len(), letters[0].at, letters[0].serial.as_str()), (1, UnixMs(9), ""));
    let () = desk.ask(("SET", "other", "a string")).await;
    desk.refuses(&DeadPage { dead: "other", skip: 0, max_letters: 1, max_bytes: 1 }).await;
}
