-- drain_limit.lua: asks a limit for calls that wait for it, on behalf of the worker that drains their wait lists.
-- KEYS  limit_key; slots: the calls in flight; waiting: the queues in which calls wait, each with when it last announced one
-- ARGV  group: the workers that serve the same queues share one leader; worker: its id; lead_ms: how long it leads, 0 to resign;
--       is_full: 1 if it has no free slot for what waits; emptied: '<queue> <announced>\n' for each queue whose wait list was found empty,
--       with the announcement that it knew of; lead_us: how soon a grant can be used; window_us: how far beyond that it may lie;
--       slot_lease_ms; idle_ttl_ms: the time to live of a limit that is not defined by hand; then for each call in turn: cost, token,
--       dies_when_spent: 1 if it does not wait for a bucket that does not have enough
-- Returns {this limit's time in us; 1 if the worker leads, 2 if it may help because the leader is full, else 0; us until the leader's lease
--       ends; us until the first call that was not granted may go if the rate is why, else 0; calls per second, 0 for no rate; how many
--       queues follow, then each with when it last announced a call; then for each call that was decided {'granted', moment or 0 for at
--       once, whether it holds a slot}, {'over_burst', burst}, {'over_budget', us} or {'undefined'}}. The first call that has to wait
--       ends the decisions.
-- Guarantees: those of acquire.lua. Whoever asks is granted what there is: the lease only saves the others from asking. A queue that
--       announced a call since its list was found empty stays. Works when Redis is out of memory.
local limit_key, slots, waiting = unpack(KEYS)
local group, worker, lead_ms, is_full, emptied, lead_us, window_us, slot_lease_ms, idle_ttl_ms = unpack(ARGV, 1, 9)

-- Read.
local lead_field = 'lead:' .. group
local values = redis.call('HMGET', limit_key, 'full_at', 'closed_until', 'marks', 'last_now', 'clock_skew', 'slots_now', 'slots_seen',
  lead_field, unpack(DEFINITION_FIELDS))
local full_at, closed_until, marks, last_now, clock_skew, last_slots_now, slots_seen, lead = unpack(values, 1, 8)
local queues = redis.call('HGETALL', waiting)
local now, skew = monotonic(now_us(), last_now, clock_skew)
local leader, lead_until, full_until = string.match(lead or '', '^(%S+) (%S+) (%S+)$')
lead_until, full_until = tonumber(lead_until or 0), tonumber(full_until or 0)
local definitions = definitions_of(values, 8)
local limit, in_force, defined_by = definition_in_force(definitions, now)
full_at, marks = tonumber(full_at or 0), parse_marks(marks)
if limit then
  full_at, marks = carry_bucket(definitions, limit, in_force, full_at, marks, now)
  definitions.in_force = in_force
end
local reply = {to_text(now), 0, 0, 0, '0', 0}

-- Which queues wait.
local announced, gone = {}, {}
for i = 1, #queues, 2 do announced[queues[i]] = queues[i + 1] end
for queue, at in string.gmatch(emptied, '(%S+) (%S+)\n') do
  if announced[queue] == at then gone[#gone + 1], announced[queue] = queue, nil end
end
local has_queues = next(announced) ~= nil
for queue, at in pairs(announced) do
  reply[6] = reply[6] + 1
  reply[#reply + 1] = queue
  reply[#reply + 1] = at
end

-- Who leads.
local leads = leader == worker or lead_until <= now
if leads then
  lead_until, full_until = now + lead_ms * 1000, is_full == '1' and now + lead_ms * 1000 or 0
  reply[2] = 1
elseif full_until > now then
  reply[2] = 2
end
reply[3] = math.max(0, math.ceil(lead_until - now))

-- Decide.
local state = {
  limit = limit, now = now, lead_us = tonumber(lead_us), window_us = tonumber(window_us), full_at = full_at,
  closed_until = tonumber(closed_until or 0), marks = marks, slots = {count = 0, held = {}, taken = {}},
}
local slots_now = slot_time(now, last_slots_now, slots_seen, slot_lease_ms * 1000)
if limit and limit.slots then state.slots.count = slots_in_use(slots, slots_now) end
if limit and limit.rate then reply[5] = to_text(limit.rate * 1000000 / limit.per_us) end
for i = 10, #ARGV, 3 do
  local cost, token, dies_when_spent = unpack(ARGV, i, i + 2)
  local grant = {'undefined'}
  if limit then
    if limit.slots then state.slots.held[token] = state.slots.held[token] or redis.call('ZSCORE', slots, token) end
    local bound = dies_when_spent == '1' and 'spent' or ''
    local request = {cost = tonumber(cost), token = token, has_priority = true, delay_us = 0, max_wait_us = bound}
    grant = over_budget(state, request) or decide(state, request)
  end
  if grant[1] == 'waiting' then
    reply[4] = grant[2]
    break
  end
  reply[#reply + 1] = grant
end

-- Write. The first one needs no memory.
if limit then
  keep_limit(limit_key, defined_by, state, idle_ttl_ms)
else
  allow_hash_when_out_of_memory(limit_key)
end
if #gone > 0 then redis.call('HDEL', waiting, unpack(gone)) end
if leads and (not has_queues or lead_ms == '0') then redis.call('HDEL', limit_key, lead_field) end
if limit then
  local written = bucket_fields(state, skew)
  if leads and has_queues and lead_ms ~= '0' then
    written[9], written[10] = lead_field, worker .. ' ' .. to_text(lead_until) .. ' ' .. to_text(full_until)
  end
  add_changed_fields(written, definitions, values, 8)
  redis.call('HSET', limit_key, unpack(written))
  if limit.slots then write_slots(limit_key, slots, state, slots_now, slot_lease_ms) end
end
return reply
