-- define_limit.lua: defines a limit by hand, overriding configuration and tasks, or removes that definition.
-- KEYS  limit_key
-- ARGV  definition: see lib/limit, '' to remove it; idle_ttl_ms: the time to live of a limit that only tasks define
-- Returns 1, or 0 if there was no definition to remove.
-- Guarantees: in force for every request from now on, also of calls that wait. Tokens that are missing from the bucket stay missing.
--       Removing works when Redis is out of memory.
local limit_key = unpack(KEYS)
local definition, idle_ttl_ms = unpack(ARGV)

local set, config, inline, full_at, last_now, clock_skew =
  unpack(redis.call('HMGET', limit_key, 'set', 'config', 'inline', 'full_at', 'last_now', 'clock_skew'))
local old_limit, limit = definition_in_force(set, config, inline), definition_in_force(definition, config, inline)
if full_at and limit then
  local now = monotonic(now_us(), last_now, clock_skew)
  local new_full_at = carry_over(limit, old_limit, tonumber(full_at), now)
  redis.call('HSET', limit_key, 'full_at', to_text(new_full_at), 'marks', no_more_to_give_back(now))
end
if definition == '' then
  local removed = redis.call('HDEL', limit_key, 'set')
  if removed == 1 and not config then redis.call('PEXPIRE', limit_key, idle_ttl_ms) end
  return removed
end
redis.call('HSET', limit_key, 'set', definition)
redis.call('PERSIST', limit_key)
return 1
