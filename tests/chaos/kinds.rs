//! The kinds of tasks that the load consists of.

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::upstream::Upstreams;

/// The rate limit that `limited` tasks are under: calls a second, and at once.
pub(crate) const RATE: f64 = 10.0;
pub(crate) const BURST: f64 = 3.0;
/// How many calls under the limit of `slots` may be in flight.
pub(crate) const SLOTS: usize = 3;
/// How long a `fleeting` answer may be shared, in ms.
pub(crate) const FLEETING_MS: u64 = 1_000;
/// The deadline of `doomed` and `hurried` tasks, in ms after their push.
pub(crate) const TTL_MS: u64 = 3_000;
/// A body of the largest size that is promised to fit.
const LARGE: usize = 1 << 20;

/// What a task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Purpose {
    /// Is answered at once.
    Plain,
    /// Fails up to twice, then is answered.
    Flaky,
    /// May be called only once.
    Once,
    /// One of three with the same idempotency key, in any queues.
    Keyed,
    /// One of five with the same cache key.
    Cached,
    /// Shares an answer that soon expires.
    Fleeting,
    /// Not before its time.
    Delayed,
    /// One of eight under a rate limit.
    Limited,
    /// One of six under a limit of calls in flight.
    Slots,
    /// One of six with a deadline, under a limit that is too slow for them.
    Hurried,
    /// Never answered, and has a deadline.
    Doomed,
    /// Not a valid task.
    Invalid,
    /// Its result goes to a list as well.
    Replied,
    /// The same, with a list in another hash slot.
    RepliedElsewhere,
    /// Cancelled before its time.
    Cancelled,
    /// Cancelled while its call is in flight.
    CancelledInFlight,
    /// Followed by another task.
    Chained,
    /// Its result is delivered by a call.
    CalledBack,
    /// For a host of its own.
    Hosts,
    /// For the upstream over HTTP/2 and TLS.
    Http2,
    /// Fires again and again, from a schedule.
    Scheduled,
    /// Has a body of 1 MiB.
    Large,
    /// Not JSON.
    NotJson,
    /// Has more headers than any client can send.
    ManyHeaders,
    /// Its follow-up has a JSONPath that is nested a thousand deep.
    DeepPath,
    /// Its reply list may not be written to.
    RefusedReply,
    /// Its reply list is a string.
    WrongType,
}

impl Purpose {
    /// How many tasks of this kind are pushed at a time.
    pub(crate) fn group_size(self) -> usize {
        match self {
            Self::Keyed => 3,
            Self::Cached => 5,
            Self::Slots | Self::Hurried => 6,
            Self::Limited => 8,
            _ => 1,
        }
    }

    /// Whether it is to come now and then only.
    pub(crate) fn is_rare(self) -> bool {
        self >= Self::Large
    }

    /// Whether it means harm: it has to end, in whatever way, and is not to touch any other task.
    pub(crate) fn is_hostile(self) -> bool {
        self >= Self::NotJson
    }
}

/// A task as it is about to be pushed.
pub(crate) struct Draft {
    pub(crate) id: String,
    pub(crate) raw: String,
    /// What tasks share that must get the same answer.
    pub(crate) group: Option<String>,
    /// The delay that it asks for, in ms.
    pub(crate) delay_ms: u64,
}

/// The list that `replied` tasks of a queue answer to: in the hash slot of the queue, so that each result is there once.
pub(crate) fn reply_list(queue: &str) -> String {
    format!("answers:{{{queue}}}:chaos")
}

/// A list that is a string.
pub(crate) fn wrong_list(queue: &str) -> String {
    format!("answers:{{{queue}}}:string")
}

/// A list in a hash slot of its own.
pub(crate) const ELSEWHERE: &str = "answers:elsewhere";
/// A list that the workers' user may not write to, where there is such a user.
const REFUSED_LIST: &str = "private:list";

/// Writes the n-th task, the member of a group.
pub(crate) fn draft(
    (purpose, nth, group): (Purpose, usize, usize),
    queue: &str,
    to: &Upstreams,
    rng: &mut StdRng,
) -> Draft {
    let id = format!("{purpose:?}-{nth}").to_lowercase();
    let retry = json!({"max_attempts": 30, "base_ms": 50, "cap_ms": 500});
    let path = |kind: &str| format!("/{kind}/{id}");
    let mut draft = Draft { id: id.clone(), raw: String::new(), group: None, delay_ms: 0 };
    let mut task = json!({"id": id, "url": to.good(&path("good")), "retry": retry, "timeout_ms": 5_000});
    let mut set = |field: &str, value: Value| task[field] = value;
    match purpose {
        Purpose::Plain | Purpose::NotJson | Purpose::Scheduled => {}
        Purpose::Flaky => set("url", json!(to.flaky(&path("flaky")))),
        Purpose::Once => {
            set("url", json!(to.linked(&path("once"))));
            set("effect", json!("once"));
            set("body", json!({"pay": 1}));
        }
        Purpose::Keyed => {
            let key = format!("key-{group}");
            set("url", json!(to.flaky(&format!("/flaky/{key}"))));
            set("body", json!({"charge": group}));
            set("idempotency_key", json!(key));
            draft.group = Some(key);
        }
        Purpose::Cached => {
            let key = format!("cache-{group}");
            set("url", json!(to.flaky(&format!("/flaky/{key}"))));
            set("cache_ttl_ms", json!(600_000));
            draft.group = Some(key);
        }
        Purpose::Fleeting => {
            set("url", json!(to.good(&format!("/fleeting/{}", rng.random_range(0..3)))));
            set("cache_ttl_ms", json!(FLEETING_MS));
        }
        Purpose::Delayed => {
            draft.delay_ms = rng.random_range(500..4_000);
            set("delay_ms", json!(draft.delay_ms));
        }
        Purpose::Cancelled => set("delay_ms", json!(3_600_000)),
        Purpose::CancelledInFlight => set("url", json!(to.good(&path("slow")))),
        Purpose::Limited => {
            set("url", json!(to.good(&path("limited"))));
            set("limit", json!({"name": "chaos", "rate": RATE, "burst": BURST}));
        }
        Purpose::Slots => {
            set("url", json!(to.good(&path("slots"))));
            set("limit", json!({"name": "chaos slots", "concurrency": SLOTS}));
        }
        Purpose::Hurried => {
            set("limit", json!({"name": "chaos slow", "rate": 1, "burst": 1}));
            set("ttl_ms", json!(TTL_MS));
        }
        Purpose::Doomed => {
            set("url", json!(to.down(&path("down"))));
            set("ttl_ms", json!(TTL_MS));
        }
        Purpose::Invalid => set("url", json!("not a url")),
        Purpose::Replied => set("reply_to", json!(reply_list(queue))),
        Purpose::RepliedElsewhere => set("reply_to", json!(ELSEWHERE)),
        Purpose::Chained => set("then", json!({"url": to.good(&format!("/then/{id}?call={{{{$.body.call}}}}"))})),
        Purpose::CalledBack => set("callback_url", json!(to.linked(&path("hook")))),
        Purpose::Hosts => set("url", json!(to.host(rng.random_range(1..=200), &path("good")))),
        Purpose::Http2 => set("url", json!(to.http2(&path("good")))),
        Purpose::Large => set("body", json!("x".repeat(LARGE))),
        Purpose::ManyHeaders => {
            let names = (0..24_577).map(|n| (format!("x-{n}"), json!("")));
            set("headers", Value::Object(names.collect()));
        }
        Purpose::DeepPath => {
            let path = format!("$[?{}1==1{}]", "(".repeat(1_000), ")".repeat(1_000));
            set("then", json!({"url": to.good(&format!("/then/{{{{{path}}}}}"))}));
        }
        Purpose::RefusedReply => set("reply_to", json!(REFUSED_LIST)),
        Purpose::WrongType => set("reply_to", json!(wrong_list(queue))),
    }
    draft.raw = if purpose == Purpose::NotJson { format!("{{\"id\": {id}, ") } else { task.to_string() };
    draft
}
