//! Where every task of a queue is at one instant: each must be in exactly one state.

use std::collections::HashMap;

use redial_tests::RedisServer;
use serde_json::Value;

/// One script, so that nothing moves meanwhile. `KEYS` also finds the hashes of workers that are no longer registered.
const SCRIPT: &str = r"
    local found = {}
    local function put(state, text)
      found[#found + 1] = state
      found[#found + 1] = text
    end
    local queue = KEYS[1]
    for _, list in ipairs({queue, queue .. ':handoff'}) do
      for _, raw in ipairs(redis.call('LRANGE', list, 0, -1)) do put('waiting', raw) end
    end
    local function after_header(entry) return string.sub(entry, string.find(entry, '\n', 1, true) + 1) end
    for _, serial in ipairs(redis.call('HKEYS', queue .. ':stored')) do
      local is_scheduled = redis.call('ZSCORE', queue .. ':scheduled', serial)
      put(is_scheduled and 'scheduled' or 'parked', after_header(redis.call('HGET', queue .. ':stored', serial)))
    end
    for _, active in ipairs(redis.call('KEYS', queue .. ':active:*')) do
      for _, entry in ipairs(redis.call('HVALS', active)) do put('active', after_header(entry)) end
    end
    for _, result in ipairs(redis.call('KEYS', queue .. ':result:*')) do
      put('ended', string.sub(result, #queue + 9))
    end
    return found";

/// The ids of a queue's tasks, by state.
#[derive(Debug, Default)]
pub struct QueueSnapshot {
    ids: HashMap<String, Vec<String>>,
}

impl QueueSnapshot {
    /// Takes a snapshot of the queue `default` of a Redis.
    pub async fn take(redis: &RedisServer) -> Self {
        let found: Vec<(String, String)> = redis::cmd("EVAL")
            .arg(SCRIPT)
            .arg(1)
            .arg("redial:{default}")
            .query_async(&mut redis.connection().await)
            .await
            .expect("this Redis replies");
        let mut snapshot = Self::default();
        for (state, text) in found {
            let id = if state == "ended" { text } else { id_of(&text) };
            snapshot.ids.entry(state).or_default().push(id);
        }
        snapshot
    }

    /// One of the tasks in a state.
    pub fn first(&self, state: &str) -> Option<&str> {
        Some(self.ids.get(state)?.first()?)
    }

    /// How many tasks are in a state.
    pub fn count(&self, state: &str) -> usize {
        self.ids.get(state).map_or(0, Vec::len)
    }

    /// Panics unless there are this many tasks, each in exactly one state.
    pub fn assert_each_once(&self, total: usize) {
        let mut states_of: HashMap<&str, Vec<&str>> = HashMap::new();
        for (state, ids) in &self.ids {
            for id in ids {
                states_of.entry(id).or_default().push(state);
            }
        }
        for (id, states) in &states_of {
            assert_eq!(states.len(), 1, "{id} is in {states:?}");
        }
        assert_eq!(states_of.len(), total, "some tasks are in no state");
    }

    /// Panics unless this many tasks have ended and none is left.
    pub fn assert_all_ended(&self, total: usize) {
        self.assert_each_once(total);
        assert_eq!(self.count("ended"), total, "{:?}", self.not_ended());
    }

    fn not_ended(&self) -> Vec<(&String, &Vec<String>)> {
        self.ids.iter().filter(|(state, _)| *state != "ended").collect()
    }
}

fn id_of(raw: &str) -> String {
    let task: Value = serde_json::from_str(raw).expect("the tasks of these tests are JSON");
    task["id"].as_str().expect("the tasks of these tests have ids").to_owned()
}
