//! Where canaries are looked for, and what was found.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use redial_tests::{RedisServer, TestQueue, Upstream};

use super::Fleet;
use super::secrets::{PLACES, Secrets, Spot};

/// What was found where it must not be, and which secrets were seen at all.
pub(super) struct Findings {
    needles: Vec<(&'static str, Vec<String>)>,
    leaks: Vec<String>,
    seen: Vec<&'static str>,
}

/// A secret in each spelling: as it is, in base64 wherever it begins in what is encoded, and with every character percent-encoded.
fn spellings(secret: &str) -> Vec<String> {
    let shifted = |shift: usize| {
        let encoded = BASE64.encode("x".repeat(shift) + secret);
        // The first characters depend on what stands before, the last ones on what stands behind.
        encoded[shift.div_ceil(3) * 4..encoded.len() / 4 * 4 - 4].to_owned()
    };
    let percent = secret.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
    vec![secret.to_owned(), shifted(0), shifted(1), shifted(2), percent]
}

impl Findings {
    pub(super) fn new(secrets: &Secrets) -> Self {
        let needles = secrets.all().iter().map(|(place, secret)| (*place, spellings(secret))).collect();
        Self { needles, leaks: Vec::new(), seen: Vec::new() }
    }

    /// Looks for all secrets in a text. The first word of its name says what it is.
    pub(super) fn look_in(&mut self, name: &str, text: &str) {
        let spot = match name.split(' ').next() {
            Some("log") => Spot::Log,
            Some("page") => Spot::Page,
            Some("task") => Spot::TaskInRedis,
            Some("key") => Spot::Redis,
            Some("command") => Spot::Command,
            Some("file") => Spot::File,
            _ => panic!("{name:?} begins with no spot"),
        };
        for (place, needles) in &self.needles {
            let Some(needle) = needles.iter().find(|needle| text.contains(needle.as_str())) else { continue };
            self.seen.push(place);
            let allowed =
                PLACES.iter().find(|(known, _)| known == place).is_some_and(|(_, spots)| spots.contains(&spot));
            if !allowed {
                let at = text.find(needle.as_str()).unwrap_or_default();
                let from =
                    (0..=at.saturating_sub(300)).rev().find(|from| text.is_char_boundary(*from)).unwrap_or_default();
                let around: String = text[from..].chars().take(500).collect();
                self.leaks.push(format!("{place} is in {name}:\n    {}", around.replace('\n', "\n    ")));
            }
        }
    }

    /// The pages of the worker and the gateway.
    pub(super) async fn pages(&mut self, fleet: &Fleet) {
        for page in ["/metrics", "/healthz", "/readyz", "/nowhere"] {
            let (_, text) = fleet.worker.get(page).await;
            self.look_in(&format!("page {page} of the worker"), &text);
            let answer = fleet.gateway.send("GET", page, &[], b"").await;
            self.look_in(&format!("page {page} of the gateway"), &answer.text());
        }
    }

    /// Every key of Redis and its value. What holds tasks as they were pushed is looked at apart.
    pub(super) async fn redis(&mut self, redis: &RedisServer) {
        let keys = redis.cli(&["KEYS", "*"]).await;
        self.look_in("key names", &keys);
        for key in keys.lines() {
            let (command, range): (_, &[&str]) = match redis.cli(&["TYPE", key]).await.as_str() {
                "string" => ("GET", &[]),
                "list" => ("LRANGE", &["0", "-1"]),
                "hash" => ("HGETALL", &[]),
                "zset" => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
                "stream" => ("XRANGE", &["-", "+"]),
                "set" => ("SMEMBERS", &[]),
                _ => continue,
            };
            let value = redis.cli(&[&[command, key], range].concat()).await;
            let state = key.split("}:").nth(1).and_then(|rest| rest.split(':').next());
            let is_queue = key.starts_with("redial:{") && key.ends_with('}');
            if is_queue || matches!(state, Some("stored" | "active" | "handoff" | "schedules" | "dead")) {
                self.look_in(&format!("task in {key}"), &value);
            } else {
                self.look_in(&format!("key {key}"), &value);
            }
        }
        // Of a dead letter, only the producer's bytes may have them.
        for letter in TestQueue::new(redis, "default").dead().await {
            self.look_in("key of a dead letter's header", &letter.header.to_string());
        }
    }

    /// Every secret was used, and none was found where it must not be.
    pub(super) fn check(self, upstream: &Upstream) {
        assert!(self.leaks.is_empty(), "{} leaks:\n{}", self.leaks.len(), self.leaks.join("\n"));
        let text = |call: &redial_tests::Request| {
            let headers: Vec<String> = call.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            format!("{} {}", call.path, headers.join(" "))
        };
        let sent = upstream.calls().iter().map(text).collect::<Vec<_>>().concat();
        for place in
            ["header from the environment", "header from a file", "login in the settings", "Authorization of a task"]
        {
            let (_, needles) = self.needles.iter().find(|(known, _)| *known == place).unwrap();
            assert!(needles.iter().any(|needle| sent.contains(needle.as_str())), "{place} was not used");
        }
        for (place, spots) in PLACES.iter().filter(|(_, spots)| !spots.is_empty()) {
            assert!(self.seen.contains(place), "{place} was to be found in {spots:?}");
        }
    }
}
