-- define_limit.lua: states the definition of a limit by hand or by the configuration of a worker, or removes the one by hand.
-- KEYS  limit_key
-- ARGV  source: 'set' or 'config'; definition: see lib/limit, '' to remove the one by hand; stated_at_ms: since when the worker has been
--       configured like this; idle_ttl_ms: the time to live of a limit that is not defined by hand
-- Returns 1, or 0 if there was no definition to remove.
-- Guarantees: in force for every request from now on, also of calls that wait, if its source goes before the others. What is left in the
--       bucket stays, as far as the new burst allows. A worker that was configured before another one changes nothing while that one
--       states its configuration. Removing works when Redis is out of memory.
local limit_key = unpack(KEYS)
local source, definition, stated_at_ms, idle_ttl_ms = unpack(ARGV)

local values = redis.call('HMGET', limit_key, 'full_at', 'closed_until', 'marks', 'last_now', 'clock_skew', unpack(DEFINITION_FIELDS))
local full_at, closed_until, marks, last_now, clock_skew = unpack(values, 1, 5)
local now = monotonic(now_us(), last_now, clock_skew)
local definitions = definitions_of(values, 5)
if source == 'config' then
  state_definition(definitions, source, definition, stated_at_ms, now)
elseif definition ~= '' then
  definitions.set = definition
elseif redis.call('HDEL', limit_key, 'set') == 0 then
  return 0
else
  definitions.set = nil
end

local limit, in_force, defined_by = definition_in_force(definitions, now)
if limit then
  if full_at and definitions.in_force ~= in_force then
    full_at, marks = carry_bucket(definitions, limit, in_force, tonumber(full_at), parse_marks(marks), now)
    redis.call('HSET', limit_key, 'full_at', to_text(full_at), 'marks', marks_text(marks))
  end
  definitions.in_force = in_force
end
local changed = {}
add_changed_fields(changed, definitions, values, 5)
if #changed > 0 then redis.call('HSET', limit_key, unpack(changed)) end
local state = {full_at = tonumber(full_at or 0), closed_until = tonumber(closed_until or 0), now = now}
keep_limit(limit_key, defined_by, state, idle_ttl_ms)
return 1
