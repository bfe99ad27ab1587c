//! find_waiting.lua: the search for a waiting task, and taking it off its list.

use redial_core::script::stored::{FindWaiting, FindWaitingReply};

use super::{Desk, hash, list};

fn call<'a>(id: &'a str, json_id: &'a str, serial: &'a str) -> FindWaiting<'a> {
    let (list, stored, scheduled) = ("list", "stored", "scheduled");
    FindWaiting { list, stored, scheduled, id, json_id, skip: 0, max_tasks: 100, serial, hold_ms: 5_000 }
}

/// A list with these tasks, the first of which will be claimed first.
async fn desk(tasks: &[&str]) -> Desk {
    let desk = Desk::new().await;
    for task in tasks {
        let () = desk.ask(("LPUSH", "list", task)).await;
    }
    desk
}

async fn before(desk: &Desk, id: &str) -> Option<usize> {
    let json_id = serde_json::to_string(id).unwrap();
    let reply = desk.run(&call(id, &json_id, "")).await;
    assert_eq!(reply.taken, None);
    reply.before
}

#[tokio::test]
async fn a_task_is_found_by_its_own_id_however_that_is_spelled_and_by_nothing_else() {
    let tasks = [
        r#"{"url":"http://h/","body":{"id":"a/1"}}"#,
        r#"{"url":"http://h/?\"a/1\"","id":"other"}"#,
        r#""a/1""#,
        r#"no JSON "a/1""#,
        r#"{"id":"a\/1","url":"http://h/"}"#,
        r#"{ "id" : "\u0062" }"#,
        r#"{"id":"a/1"}"#,
    ];
    let desk = desk(&tasks).await;
    assert_eq!(before(&desk, "a/1").await, Some(4));
    assert_eq!(before(&desk, "b").await, Some(5));
    assert_eq!(before(&desk, "other").await, Some(1));
    for none in ["a", "h", "no JSON"] {
        assert_eq!(before(&desk, none).await, None, "{none}");
    }
    let deep = format!("{{\"id\":\"deep\",\"x\":{}1{}}}", "[".repeat(2_000), "]".repeat(2_000));
    let () = desk.ask(("LPUSH", "list", deep)).await;
    assert_eq!(before(&desk, "deep").await, None, "no worker takes it for a task either");
}

#[tokio::test]
async fn a_page_begins_where_the_last_one_ended() {
    let desk = desk(&[r#"{"id":"a"}"#, r#"{"id":"b"}"#, r#"{"id":"c"}"#]).await;
    let page = |skip, max_tasks| FindWaiting { skip, max_tasks, ..call("c", "\"c\"", "") };
    let nothing = |tasks, bytes| FindWaitingReply { tasks, bytes, before: None, taken: None };
    assert_eq!(desk.run(&page(0, 2)).await, nothing(2, 20));
    assert_eq!(desk.run(&page(2, 2)).await, FindWaitingReply { before: Some(2), ..nothing(1, 10) });
    assert_eq!(desk.run(&page(3, 2)).await, nothing(0, 0));
}

#[tokio::test]
async fn a_task_that_is_taken_is_scheduled_and_the_newest_one_takes_its_place() {
    for (id, left) in
        [("a", vec!["c", "b", "d"]), ("b", vec!["c", "d", "a"]), ("c", vec!["d", "b", "a"]), ("d", vec!["c", "b", "a"])]
    {
        let raws = ["a", "b", "c", "d"].map(|id| format!("{{\"id\":\"{id}\"}}"));
        let desk = desk(&raws.each_ref().map(String::as_str)).await;
        let json_id = format!("\"{id}\"");
        let reply = desk.run(&call(id, &json_id, "s")).await;
        let entry = String::from_utf8(reply.taken.unwrap()).unwrap();
        assert!(entry.starts_with("s ") && entry.ends_with(&format!(" 0 0 -\n{{\"id\":\"{id}\"}}")), "{entry}");
        let dump = desk.dump().await;
        let mut left: Vec<String> = left.into_iter().map(|id| format!("{{\"id\":\"{id}\"}}")).collect();
        if id == "a" {
            // The newest is claimed first now; the others keep their order.
            left = vec![raws[2].clone(), raws[1].clone(), raws[3].clone()];
        }
        assert_eq!(dump["list"].0, list(&left), "{id}");
        assert_eq!(dump["stored"].0, hash(&[("s", entry)]));
        let due: u64 = desk.ask(("ZSCORE", "scheduled", "s")).await;
        assert!(due.abs_diff(desk.now().await + 5_000) < 5_000);
        // It is taken once.
        desk.changes_nothing(
            &call(id, &json_id, "s2"),
            FindWaitingReply { tasks: 3, bytes: 30, before: None, taken: None },
        )
        .await;
    }
}

#[tokio::test]
async fn the_only_task_of_a_list_is_taken() {
    let desk = desk(&[r#"{"id":"a"}"#]).await;
    assert_eq!(desk.run(&call("a", "\"a\"", "s")).await.before, Some(0));
    assert!(!desk.dump().await.contains_key("list"));
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_moves() {
    for key in ["list", "stored", "scheduled"] {
        let desk = desk(&[r#"{"id":"a"}"#]).await;
        let () = desk.ask(("SET", key, "x")).await;
        desk.refuses(&call("a", "\"a\"", "s")).await;
    }
}
