//! followers.lua: the next followers of a memo, and what is left of those that are gone.

use redial_core::script::{FOLLOWERS, Invocation};

use super::{AWKWARD, Desk, escaped, follow};

fn call(most: u32, bytes: u64) -> Invocation {
    FOLLOWERS.call().key("followers").key("parked").key("watch").arg("memo ab").arg(most).arg(bytes)
}

async fn read(desk: &Desk, most: u32, bytes: u64) -> (u64, Vec<(String, String)>) {
    let reply: Vec<redis::Value> = desk.run(&call(most, bytes)).await;
    let left = redis::from_redis_value_ref(&reply[0]).unwrap();
    let bytes = |value: &redis::Value| escaped(&redis::from_redis_value_ref::<Vec<u8>>(value).unwrap());
    (left, reply[1..].chunks(2).map(|pair| (bytes(&pair[0]), bytes(&pair[1]))).collect())
}

/// With these followers, in this order, each with a deadline.
pub(crate) async fn desk(raws: &[&[u8]]) -> Desk {
    let desk = Desk::new().await;
    for (n, raw) in raws.iter().enumerate() {
        desk.hold("t", &[b"h\n", *raw].concat()).await;
        let parked: u8 = desk.run(&follow::call("t", &format!("s{n}"), "99000")).await;
        assert_eq!(parked, 1);
        // Their order is by the millisecond.
        let () = desk.ask(("ZADD", "followers", n, format!("s{n}"))).await;
    }
    desk
}

#[tokio::test]
async fn they_are_read_in_their_order_and_stay() {
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
async fn the_one_that_reaches_the_bound_of_bytes_is_the_last() {
    let desk = desk(&[&[b'x'; 500], &[b'y'; 500], b"z"]).await;
    assert_eq!(read(&desk, 100, 600).await.1.len(), 2);
    assert_eq!(read(&desk, 100, 1).await.1.len(), 1);
}

#[tokio::test]
async fn those_that_are_gone_are_forgotten_and_with_the_last_the_memo_is_watched_no_more() {
    let desk = desk(&[b"a", b"b", b"c"]).await;
    let () = desk.ask(("ZADD", "watch", 5, "memo cd")).await;
    let () = desk.ask(("HDEL", "parked", "s0", "s2")).await;
    let (left, found) = read(&desk, 100, 1 << 20).await;
    assert_eq!((left, found.len(), found[0].0.as_str()), (1, 1, "s1"));
    let watched: Vec<String> = desk.ask(("ZRANGE", "watch", 0, -1)).await;
    assert_eq!(watched.iter().filter(|name| name.contains(" ab")).count(), 2, "{watched:?}");
    let () = desk.ask(("DEL", "parked")).await;
    assert_eq!(read(&desk, 100, 1 << 20).await, (0, Vec::new()));
    assert_eq!(desk.ask::<Vec<String>>(("ZRANGE", "watch", 0, -1)).await, ["memo cd"]);
    assert_eq!(read(&desk, 100, 1 << 20).await, (0, Vec::new()));
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_is_forgotten() {
    for key in ["followers", "parked", "watch"] {
        let desk = desk(&[b"a", b"b"]).await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call(100, 1 << 20)).await;
    }
}
