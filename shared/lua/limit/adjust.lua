-- adjust.lua: corrects a limit by what was learned after it admitted a call.
-- KEYS  limit_key, reserved
-- ARGV  close_us: admit nothing for this long from now, 0 for no change; closed_by: why, for people; charge: cost to take in addition,
--       negative to give back; cost: what the call had taken; fairness_key: the key that pays a charge; remaining: admit at most this much
--       at once from now on, '' for no change; admitted_at: when the limit admitted the call, by its own clock; said_by: who says so: the
--       'fleet' itself, the response of an 'upstream' that the configuration names this limit for, or the response to any other 'task'
-- Returns 1, or 2 if the charge is not believable and was capped (see lib/bucket), or 0 if the limit no longer exists, or 3 if the
--       response has no say in it.
-- Guarantees: what operators define is not moved by the response to a task that merely names it. A limit is only ever closed for longer. What is given back counts only if no call has found the bucket full since, so
--       it never admits more than if the call had not asked. Sent twice, it errs on the side of fewer calls, except for giving back.
--       Works when Redis is out of memory.
local limit_key, reserved = unpack(KEYS)
local close_us, closed_by, charge, cost, fairness_key, remaining, admitted_at, said_by = unpack(ARGV)

local full_at, closed_until, last_full_at, last_now, clock_skew =
  unpack(redis.call('HMGET', limit_key, 'full_at', 'closed_until', 'last_full_at', 'last_now', 'clock_skew'))
local now, skew = monotonic(now_us(), last_now, clock_skew)
local definitions = definitions_of(redis.call('HMGET', limit_key, unpack(DEFINITION_FIELDS)))
expect_type('zset', reserved)
local _, _, defined_by = definition_in_force(definitions, now)
-- The next request takes the bucket over to another definition.
local limit = defined_by and parse_definition(definitions.in_force)
if not limit then return 0 end
if said_by == 'task' and defined_by ~= 'inline' then return 3 end
charge, full_at, closed_until = tonumber(charge), tonumber(full_at or 0), tonumber(closed_until or 0)
local is_capped, closure = false, {}

if tonumber(close_us) > 0 and now + close_us > closed_until then
  closure = {'closed_by', closed_by}
  if closed_until <= now then closure = {'closed_by', closed_by, 'closed_at', to_text(now)} end
  closed_until = now + close_us
end
if limit.rate then
  if charge > 0 then
    local believed = believable(limit, charge + cost, tonumber(cost)) - cost
    is_capped, charge = believed < charge, believed
    full_at = full_at_after(limit, full_at, now, charge)
  elseif tonumber(last_full_at or 0) <= tonumber(admitted_at) then
    full_at = full_at - refund_time(limit, -charge)
  end
  if remaining ~= '' then full_at = math.max(full_at, now + refill_time(limit, math.max(0, limit.burst - remaining))) end
end

allow_hash_when_out_of_memory(limit_key)
redis.call('HSET', limit_key, 'full_at', to_text(full_at), 'closed_until', to_text(closed_until), 'last_now', to_text(now),
  'clock_skew', to_text(skew), unpack(closure))
local last = redis.call('ZSCORE', reserved, fairness_key)
if last and limit.rate and charge > 0 then
  redis.call('ZADD', reserved, to_text(last + refill_time(limit, charge)), fairness_key)
end
local ttl, busy_ms = redis.call('PTTL', limit_key), math.ceil(2 * (math.max(full_at, closed_until) - now) / 1000)
if ttl >= 0 and ttl < busy_ms then redis.call('PEXPIRE', limit_key, busy_ms) end
return is_capped and 2 or 1
