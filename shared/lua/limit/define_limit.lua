-- define_limit.lua: states the definition of a limit by hand or by the configuration of a worker, or removes the one by hand.
-- KEYS  limit_key, reserved, queued
-- ARGV  source: 'set' or 'config'; definition: see lib/limit, '' to remove the one by hand; stated_at_ms: since when the worker has been
--       configured like this; idle_ttl_ms: the time to live of a limit that is not defined by hand
-- Returns 1 if calls that wait should learn of another definition in force, 0 if not; or -1 if there was no definition to remove.
-- Guarantees: in force for every request from now on, if its source goes before the others. What is left in the bucket stays, as far as
--       the new burst allows. A worker that was configured before another one changes nothing while that one states its configuration.
--       Removing works when Redis is out of memory.
local limit_key, reserved, queued = unpack(KEYS)
local source, definition, stated_at_ms, idle_ttl_ms = unpack(ARGV)

local full_at, closed_until, last_now, clock_skew =
  unpack(redis.call('HMGET', limit_key, 'full_at', 'closed_until', 'last_now', 'clock_skew'))
expect_type('zset', reserved, queued)
local now = monotonic(now_us(), last_now, clock_skew)
local stored = redis.call('HMGET', limit_key, unpack(DEFINITION_FIELDS))
local definitions = definitions_of(stored)
if source == 'config' then
  state_definition(definitions, source, definition, stated_at_ms, now)
elseif definition ~= '' then
  definitions.set = definition
elseif redis.call('HDEL', limit_key, 'set') == 0 then
  return -1
else
  definitions.set = nil
end

local limit, in_force, defined_by = definition_in_force(definitions, now)
local wakes = false
if limit then
  wakes = should_wake(definitions, limit, in_force, defined_by, now)
  if full_at and definitions.in_force ~= in_force then
    full_at = full_at_under(definitions, limit, in_force, tonumber(full_at), now)
    redis.call('HSET', limit_key, 'full_at', to_text(full_at))
    -- A bucket that is full now has nothing to be given back.
    if full_at <= now then redis.call('HSET', limit_key, 'last_full_at', to_text(now)) end
  end
  definitions.in_force = in_force
end
local changed = changed_fields(definitions, stored)
if #changed > 0 then redis.call('HSET', limit_key, unpack(changed)) end
if wakes then redis.call('DEL', reserved, queued) end
if definitions.set then
  redis.call('PERSIST', limit_key)
else
  -- What is missing from the bucket stays missing if it is defined again.
  local busy_ms = 2 * (math.max(tonumber(full_at or 0), tonumber(closed_until or 0)) - now) / 1000
  redis.call('PEXPIRE', limit_key, math.ceil(math.max(idle_ttl_ms, busy_ms)))
end
return wakes and 1 or 0
