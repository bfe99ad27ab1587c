-- lib/limit_state.lua: what the scripts that grant calls read and write of a limit besides its bucket. Needs lib/limit.

-- How many concurrency slots are in use; drops those whose lease has ended.
local function slots_in_use(slots, slots_now)
  redis.call('ZREMRANGEBYSCORE', slots, '-inf', to_text(slots_now))
  return redis.call('ZCARD', slots)
end

-- What is written of a bucket and of the limit's clock, for HSET: eight values, to which others may be added.
local function bucket_fields(state, skew)
  return {
    'full_at', to_text(state.full_at), 'marks', marks_text(state.marks), 'last_now', to_text(state.now), 'clock_skew', to_text(skew),
  }
end

-- Keeps a limit that is defined by hand, and any other one at least twice as long as its bucket takes to fill.
local function keep_limit(limit_key, defined_by, state, idle_ttl_ms)
  if defined_by == 'set' then
    redis.call('PERSIST', limit_key)
  else
    local busy_ms = 2 * (math.max(state.full_at, state.closed_until) - state.now) / 1000
    redis.call('PEXPIRE', limit_key, string.format('%d', math.ceil(math.max(idle_ttl_ms, busy_ms))))
  end
end

-- Stores the slots that were taken, and their clock, which goes on only when it is read.
local function write_slots(limit_key, slots, state, slots_now, slot_lease_ms)
  for _, token in ipairs(state.slots.taken) do redis.call('ZADD', slots, to_text(slots_now + slot_lease_ms * 1000), token) end
  redis.call('HSET', limit_key, 'slots_now', to_text(slots_now), 'slots_seen', to_text(state.now))
  if #state.slots.taken > 0 then redis.call('PEXPIRE', slots, KEEP_SLOTS_MS) end
end
