-- acquire.lua: asks a limit for calls, in turn: each is granted a moment at which it may go, or has to wait in its queue.
-- KEYS  limit_key; slots: the calls in flight; waiting: the queues in which calls wait, each with when it last announced one
-- ARGV  source: 'config', 'inline' or 'name': who defines the limit here; definition: that definition (see lib/limit), '' for 'name';
--       lead_us: how soon a grant can be used; window_us: how far beyond that it may lie; slot_lease_ms; idle_ttl_ms: the time to live
--       of a limit that is not defined by hand; stated_at_ms: when the task that defines it was first seen, or since when the worker has
--       been configured like this, because the newest counts; then for each call: cost, token, has_priority: 1 if it goes before those
--       that wait; delay_us: the earliest moment that it can use, from now; returned_at: the moment of a grant that it gives back, ''
--       for none; max_wait_us (see lib/budget)
-- Returns this limit's time in us; then for each call {'granted', moment by that time or 0 for at once, whether it holds a slot};
--       {'waiting', us until it may go if the rate is why, else 0}; {'over_burst', burst}: the cost can never be met; {'over_budget', us
--       that it would have to wait}: longer than it is willing to; or {'undefined'}: no one defines this limit.
-- Guarantees: in any window of length t, by this Redis's clock, at most burst + rate * t is granted, whoever asks and in whatever order
--       the moments lie. A call without priority is granted nothing while others wait. A lost reply wastes some of the rate but never
--       grants too much; a token that asks for a slot twice has one slot, and no step of Redis's clock ends the lease of a slot. Works
--       when Redis is out of memory.
local limit_key, slots, waiting = unpack(KEYS)
local source, definition, lead_us, window_us, slot_lease_ms, idle_ttl_ms, stated_at_ms = unpack(ARGV, 1, 7)

-- A call that has waited already waits this long in its worker: its moment was booked for it before.
local PRIORITY_WINDOW_US = 1500000

-- Read.
local values = redis.call('HMGET', limit_key, 'full_at', 'closed_until', 'marks', 'last_now', 'clock_skew', 'slots_now', 'slots_seen',
  unpack(DEFINITION_FIELDS))
local full_at, closed_until, marks, last_now, clock_skew, last_slots_now, slots_seen = unpack(values, 1, 7)
local is_waiting = redis.call('HLEN', waiting) > 0
local now, skew = monotonic(now_us(), last_now, clock_skew)
local definitions = definitions_of(values, 7)
state_definition(definitions, source, definition, stated_at_ms, now)
local limit, in_force, defined_by = definition_in_force(definitions, now)
local reply = {to_text(now)}
if not limit then
  for _ = 8, #ARGV, 6 do reply[#reply + 1] = {'undefined'} end
  return reply
end

full_at, marks = carry_bucket(definitions, limit, in_force, tonumber(full_at or 0), parse_marks(marks), now)
definitions.in_force = in_force
local slots_now = slot_time(now, last_slots_now, slots_seen, slot_lease_ms * 1000)
local state = {
  limit = limit, now = now, lead_us = tonumber(lead_us), window_us = tonumber(window_us), full_at = full_at,
  closed_until = tonumber(closed_until or 0), marks = marks, is_waiting = is_waiting,
  slots = {count = 0, held = {}, taken = {}},
}
if limit.slots then state.slots.count = slots_in_use(slots, slots_now) end

-- Most calls of a batch state the same numbers: each text is converted once.
local numbers = {}
local function number(text)
  if text == '' then return nil end
  local value = numbers[text] or tonumber(text)
  numbers[text] = value
  return value
end

-- Decide. One table serves all requests.
local request = {}
for i = 8, #ARGV, 6 do
  local cost, token, has_priority, delay_us, returned_at, max_wait_us = unpack(ARGV, i, i + 5)
  if limit.slots then state.slots.held[token] = state.slots.held[token] or redis.call('ZSCORE', slots, token) end
  request.cost, request.token, request.has_priority = number(cost), token, has_priority == '1'
  request.window_us = request.has_priority and PRIORITY_WINDOW_US or nil
  request.delay_us, request.returned_at, request.max_wait_us = number(delay_us), number(returned_at), max_wait_us
  reply[#reply + 1] = over_budget(state, request) or decide(state, request)
end

-- Write. The first one needs no memory. A key that does not exist yet has no time to live to set.
if last_now then keep_limit(limit_key, defined_by, state, idle_ttl_ms) else allow_hash_when_out_of_memory(limit_key) end
local written = bucket_fields(state, skew)
add_changed_fields(written, definitions, values, 7)
redis.call('HSET', limit_key, unpack(written))
if not last_now then keep_limit(limit_key, defined_by, state, idle_ttl_ms) end
if limit.slots then write_slots(limit_key, slots, state, slots_now, slot_lease_ms) end
return reply
