//! drop_dead.lua: a dead letter is deleted for good.

use redial_core::script::task::DropDead;

use super::{Desk, hash, sorted};

const FIRST: &[u8] = b"{\"serial\":\"s:1:1\"}\nraw";

fn call(letter: &[u8]) -> DropDead<'_> {
    DropDead { dead: "dead", stats: "stats", letter }
}

fn dead_letter_header(serial: &str) -> String {
    format!("{{\"serial\":\"{serial}\"}}\nraw")
}

impl Desk {
    async fn with_letters() -> Self {
        let desk = Self::new().await;
        for serial in ["s:1:1", "s:1:10", "s:1:2"] {
            let () = desk.ask(("ZADD", "dead", 5, dead_letter_header(serial))).await;
        }
        desk
    }
}

#[tokio::test]
async fn only_the_letter_named_goes_and_it_is_counted() {
    let desk = Desk::with_letters().await;
    let () = desk.ask(("SET", "result", "of it")).await;
    assert!(desk.run(&call(FIRST)).await);
    let dump = desk.dump().await;
    let left = [(dead_letter_header("s:1:10"), 5), (dead_letter_header("s:1:2"), 5)];
    assert_eq!(dump["dead"].0, sorted(&left));
    assert_eq!(dump["stats"].0, hash(&[("dropped", "1")]));
    assert!(dump.contains_key("result"));
    desk.changes_nothing(&call(FIRST), false).await;
}

#[tokio::test]
async fn a_letter_that_is_gone_changes_nothing() {
    let desk = Desk::with_letters().await;
    desk.changes_nothing(&call(b"{\"serial\":\"s:1:3\"}\nraw"), false).await;
    desk.changes_nothing(&call(b""), false).await;
}

#[tokio::test]
async fn a_key_of_another_type_stops_it_before_anything_goes() {
    for key in ["dead"] {
        let desk = Desk::with_letters().await;
        let () = desk.ask(("SET", key, "something else")).await;
        desk.refuses(&call(FIRST)).await;
    }
}
