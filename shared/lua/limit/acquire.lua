-- acquire.lua: requests calls from a limit, in turn: each is admitted, or gets a time of its own at which to ask again.
-- KEYS  limit_key; reserved: the fairness keys that wait, by the last time each has; slots: the calls in flight; queued: the
--       fairness keys with requests that came on time and found the rate used
-- ARGV  source: 'config', 'inline' or 'name': who defines the limit here; definition: that definition (see lib/limit), '' for 'name';
--       hold_us: how early a call may come that waits the rest out in its worker; slot_lease_ms; idle_ttl_ms: the time to live of a
--       limit that is not defined by hand; stated_at_ms: when the task that defines it was first seen, or since when the worker has been
--       configured like this, because the newest counts; then for each call: fairness_key, cost, reservation (0 for none), token,
--       max_wait_us (see lib/budget)
-- Returns 1 if calls that wait should learn of a new definition, else 0; then for each call {'admitted', wait_us (<= 10000), whether it holds a
--       slot, when by this limit's clock}; {'reserved', wait_us, reservation: a time by this limit's clock, negative for a turn in
--       the queue}; {'over_burst', burst}: the cost can never be met; {'over_budget', wait_us}: it would have to wait longer than it is
--       willing to; or {'undefined'}: no one defines this limit.
-- Guarantees: in any window of length t, by this Redis's clock, at most burst + rate * t is admitted, whoever asks and however late
--       they come, because a reservation is checked again when its time has come. Fairness keys that want more than there is get equal
--       shares of the times. A call that comes on time and finds the rate used, because more was booked than there is or others came
--       late, joins its key's queue, which goes before later calls of that key and has an equal share of the rate as well. A call
--       that comes over a second late, or long before its time, books again. A lost reply wastes some of the rate but never admits
--       too much; a token that asks for a slot twice has one slot, and no
--       step of Redis's clock ends the lease of a slot. Works when Redis is out of memory.
local limit_key, reserved, slots, queued = unpack(KEYS)
local source, definition, hold_us, slot_lease_ms, idle_ttl_ms, stated_at_ms = unpack(ARGV, 1, 6)

-- Read.
local full_at, closed_until, last_full_at, last_now, clock_skew, avg_call_us, next_slot_at, last_slots_now, slots_seen =
  unpack(redis.call('HMGET', limit_key, 'full_at', 'closed_until', 'last_full_at', 'last_now', 'clock_skew', 'avg_call_us',
    'next_slot_at', 'slots_now', 'slots_seen'))
expect_type('zset', reserved, slots, queued)
local now, skew = monotonic(now_us(), last_now, clock_skew)
local stored = redis.call('HMGET', limit_key, unpack(DEFINITION_FIELDS))
local definitions = definitions_of(stored)
state_definition(definitions, source, definition, stated_at_ms, now)
local limit, in_force, defined_by = definition_in_force(definitions, now)
local reply = {0}
if not limit then
  for _ = 7, #ARGV, 5 do reply[#reply + 1] = {'undefined'} end
  return reply
end

local slots_now = slot_time(now, last_slots_now, slots_seen, slot_lease_ms * 1000)
allow_hash_when_out_of_memory(limit_key)
full_at = full_at_under(definitions, limit, in_force, tonumber(full_at or 0), now)
if should_wake(definitions, limit, in_force, defined_by, now) then
  reply[1], definitions.woken_at = 1, to_text(now)
  redis.call('DEL', reserved, queued)
end
-- A bucket that is full now has nothing to be given back.
if definitions.in_force ~= in_force and full_at <= now then last_full_at = now end
definitions.in_force = in_force

-- How many members of a sorted set are not over yet at a time; drops those that are.
local function count_current(key, at)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', to_text(at))
  return redis.call('ZCARD', key)
end

local state = {
  limit = limit, now = now, hold_us = tonumber(hold_us), full_at = full_at, closed_until = tonumber(closed_until or 0),
  last_full_at = tonumber(last_full_at or 0), avg_call_us = tonumber(avg_call_us or 100000),
  next_slot_at = tonumber(next_slot_at or 0),
  reserved = {count = count_current(reserved, now), last = {}, changed = {}},
  queued = {count = count_current(queued, now), last = {}, changed = {}},
  slots = {count = count_current(slots, slots_now), held = {}, taken = {}},
}
local requests, is_read = {}, {}
for i = 7, #ARGV, 5 do
  local fairness_key, cost, reservation, token, max_wait_us = unpack(ARGV, i, i + 4)
  requests[#requests + 1] = {
    fairness_key = fairness_key, cost = tonumber(cost), reservation = tonumber(reservation), token = token, max_wait_us = max_wait_us,
  }
  if limit.rate and not is_read[fairness_key] then
    is_read[fairness_key] = true
    state.reserved.last[fairness_key] = tonumber(redis.call('ZSCORE', reserved, fairness_key) or nil)
    state.queued.last[fairness_key] = tonumber(redis.call('ZSCORE', queued, fairness_key) or nil)
  end
  if limit.slots then state.slots.held[token] = redis.call('ZSCORE', slots, token) and true end
end

-- Decide.
for _, request in ipairs(requests) do reply[#reply + 1] = over_budget(state, request) or decide(state, request) end

-- Write.
redis.call('HSET', limit_key, 'full_at', to_text(state.full_at), 'last_full_at', to_text(state.last_full_at),
  'last_now', to_text(now), 'clock_skew', to_text(skew))
if state.next_slot_at > now then redis.call('HSET', limit_key, 'next_slot_at', to_text(state.next_slot_at)) end
local changed = changed_fields(definitions, stored)
if #changed > 0 then redis.call('HSET', limit_key, unpack(changed)) end
if defined_by == 'set' then
  redis.call('PERSIST', limit_key)
else
  -- Other limits are kept at least twice as long as its bucket takes to fill.
  local busy_ms = 2 * (math.max(state.full_at, state.closed_until) - now) / 1000
  redis.call('PEXPIRE', limit_key, math.ceil(math.max(idle_ttl_ms, busy_ms)))
end

local function write_turns(key, turns)
  for fairness_key in pairs(turns.changed) do redis.call('ZADD', key, to_text(turns.last[fairness_key]), fairness_key) end
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  if last then redis.call('PEXPIRE', key, math.ceil(math.max(1, (last - now) / 1000)) + 60000) end
end
if limit.rate then
  write_turns(reserved, state.reserved)
  write_turns(queued, state.queued)
end
if limit.slots then
  for _, token in ipairs(state.slots.taken) do redis.call('ZADD', slots, to_text(slots_now + slot_lease_ms * 1000), token) end
  redis.call('HSET', limit_key, 'slots_now', to_text(slots_now), 'slots_seen', to_text(now))
  redis.call('PEXPIRE', slots, KEEP_SLOTS_MS)
end
return reply
