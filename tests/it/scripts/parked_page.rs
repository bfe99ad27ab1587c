//! parked_page.lua: the first tasks of a wait list; serials that are no longer parked are removed from it.

use redial_core::script::task::{ParkedPageReply, ReadParkedPage};

use super::{AWKWARD, Desk, escaped, park};

fn call<'a>(max_tasks: usize, max_bytes: usize) -> ReadParkedPage<'a> {
    let (wait_list, stored, watch, list_name) = ("list", "stored", "watch", "memo ab");
    ReadParkedPage { wait_list, stored, watch, list_name, max_tasks, max_bytes }
}

async fn read(desk: &Desk, most: usize, bytes: usize) -> (usize, Vec<(String, String)>) {
    let ParkedPageReply { left, tasks } = desk.run(&call(most, bytes)).await;
    (left, tasks.into_iter().map(|(serial, entry)| (serial.as_str().to_owned(), escaped(&entry))).collect())
}

/// With these tasks parked, in this order, each with a deadline.
pub(crate) async fn desk(raws: &[&[u8]]) -> Desk {
    let desk = Desk::new().await;
    for (n, raw) in raws.iter().enumerate() {
        desk.hold("t", &[b"h\n", *raw].concat()).await;
        assert!(desk.run(&park::call("t", &format!("s{n}"), Some(99_000))).await);
        // Their order is by the millisecond.
        let () = desk.ask(("ZADD", "list", n, format!("s{n}"))).await;
    }
    desk
}

#[tokio::test]
async fn parked_tasks_are_read_in_their_order_and_stay_parked() {
    let desk = desk(&AWKWARD).await;
    let before = desk.dump().await;
    let (left, found) = read(&desk, 4, 1 << 20).await;
    assert_eq!((left, found.len()), (6, 4));
    for (n, (serial, entry)) in found.iter().enumerate() {
        assert_eq!(*serial, format!("s{n}"));
        assert!(entry.ends_with(&format!("\\n{}", escaped(AWKWARD[n]))), "{entry}");
    }
    assert_eq!(desk.dump().await, before);
}

#[tokio::test]
async fn the_task_that_reaches_the_byte_limit_is_the_last_one() {
    let desk = desk(&[&[b'x'; 500], &[b'y'; 500], b"z"]).await;
    assert_eq!(read(&desk, 100, 600).await.1.len(), 2);
    assert_eq!(read(&desk, 100, 1).await.1.len(), 1);
}

#[tokio::test]
async fn serials_that_are_gone_are_removed_and_an_empty_list_is_no_longer_watched() {
    let desk = desk(&[b"a", b"b", b"c"]).await;
    let () = desk.ask(("ZADD", "watch", 5, "memo cd")).await;
    let () = desk.ask(("HDEL", "stored", "s0", "s2")).await;
    let (left, found) = read(&desk, 100, 1 << 20).await;
    assert_eq!((left, found.len(), found[0].0.as_str()), (1, 1, "s1"));
    let watched: Vec<String> = desk.ask(("ZRANGE", "watch", 0, -1)).await;
    assert_eq!(watched.iter().filter(|name| *name == "memo ab" || *name == "s1").count(), 2, "{watched:?}");
    let () = desk.ask(("DEL", "stored")).await;
    assert_eq!(read(&desk, 100, 1 << 20).await, (0, Vec::new()));
    assert_eq!(desk.ask::<Vec<String>>(("ZRANGE", "watch", 0, -1)).await, ["memo cd"]);
    assert_eq!(read(&desk, 100, 1 << 20).await, (0, Vec::new()));
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_is_removed() {
    for key in ["list", "stored", "watch"] {
        let desk = desk(&[b"a", b"b"]).await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call(100, 1 << 20)).await;
    }
}
