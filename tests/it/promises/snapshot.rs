//! Where every task of a queue is, all at one instant: each must be in exactly one place.

use std::collections::HashMap;

use redial_tests::RedisServer;
use serde_json::Value;

/// One script, so that nothing moves while it looks. `KEYS` finds the hashes of workers that nobody knows of any more.
const SCRIPT: &str = r"
    local found = {}
    local function put(place, text)
      found[#found + 1] = place
      found[#found + 1] = text
    end
    local queue = KEYS[1]
    for _, list in ipairs({queue, queue .. ':handoff'}) do
      for _, raw in ipairs(redis.call('LRANGE', list, 0, -1)) do put('waiting', raw) end
    end
    local function behind_header(entry) return string.sub(entry, string.find(entry, '\n', 1, true) + 1) end
    for _, entry in ipairs(redis.call('ZRANGE', queue .. ':scheduled', 0, -1)) do
      put('scheduled', behind_header(entry))
    end
    for _, entry in ipairs(redis.call('HVALS', queue .. ':parked')) do put('parked', behind_header(entry)) end
    for _, active in ipairs(redis.call('KEYS', queue .. ':active:*')) do
      for _, entry in ipairs(redis.call('HVALS', active)) do put('active', behind_header(entry)) end
    end
    for _, result in ipairs(redis.call('KEYS', queue .. ':result:*')) do
      put('ended', string.sub(result, #queue + 9))
    end
    return found";

/// The ids of the tasks of a queue, by place.
#[derive(Debug, Default)]
pub struct QueueSnapshot {
    ids: HashMap<String, Vec<String>>,
}

impl QueueSnapshot {
    /// Looks at the queue `default` of a Redis.
    pub async fn take(redis: &RedisServer) -> Self {
        let found: Vec<(String, String)> = redis::cmd("EVAL")
            .arg(SCRIPT)
            .arg(1)
            .arg("redial:{default}")
            .query_async(&mut redis.connection().await)
            .await
            .expect("this Redis answers");
        let mut places = Self::default();
        for (place, text) in found {
            let id = if place == "ended" { text } else { id_of(&text) };
            places.ids.entry(place).or_default().push(id);
        }
        places
    }

    /// One of the tasks in a place.
    pub fn first(&self, place: &str) -> Option<&str> {
        Some(self.ids.get(place)?.first()?)
    }

    /// How many tasks are in a place.
    pub fn count(&self, place: &str) -> usize {
        self.ids.get(place).map_or(0, Vec::len)
    }

    /// Panics unless there are so many tasks, each in one place alone.
    pub fn assert_each_once(&self, total: usize) {
        let mut places_of: HashMap<&str, Vec<&str>> = HashMap::new();
        for (place, ids) in &self.ids {
            for id in ids {
                places_of.entry(id).or_default().push(place);
            }
        }
        for (id, places) in &places_of {
            assert_eq!(places.len(), 1, "{id} is in {places:?}");
        }
        assert_eq!(places_of.len(), total, "some tasks are nowhere");
    }

    /// Panics unless so many tasks have ended and nothing else is left.
    pub fn assert_all_ended(&self, total: usize) {
        self.assert_each_once(total);
        assert_eq!(self.count("ended"), total, "{:?}", self.left());
    }

    fn left(&self) -> Vec<(&String, &Vec<String>)> {
        self.ids.iter().filter(|(place, _)| *place != "ended").collect()
    }
}

fn id_of(raw: &str) -> String {
    let task: Value = serde_json::from_str(raw).expect("the tasks of these tests are JSON");
    task["id"].as_str().expect("the tasks of these tests have ids").to_owned()
}
