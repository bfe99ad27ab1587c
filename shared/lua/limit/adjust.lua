-- adjust.lua: corrects a limit by what was learned after it admitted a call.
-- KEYS  limit_key
-- ARGV  close_us: admit nothing for this long from now, 0 for no change; charge: cost to take in addition, negative to give back;
--       cost: what the call had taken; remaining: admit at most this much at once from now on, '' for no change; granted_at: the moment
--       for which the limit granted the call
-- Returns 1, or 2 if the charge is not believable and was capped (see lib/bucket), or 0 if the limit no longer exists.
-- Guarantees: a limit is only ever closed for longer. What is given back counts as far as the bucket would not have been full since, so
--       it never grants more than if the call had not asked. Sent twice, it errs on the side of fewer calls, except for giving back.
--       Works when Redis is out of memory.
local limit_key = unpack(KEYS)
local close_us, charge, cost, remaining, granted_at = unpack(ARGV)

local set, config, inline, full_at, closed_until, marks, last_now, clock_skew = unpack(redis.call('HMGET', limit_key,
  'set', 'config', 'inline', 'full_at', 'closed_until', 'marks', 'last_now', 'clock_skew'))
local limit = definition_in_force(set, config, inline)
if not limit then return 0 end
local now, skew = monotonic(now_us(), last_now, clock_skew)
charge, full_at, closed_until, marks = tonumber(charge), tonumber(full_at or 0), tonumber(closed_until or 0), parse_marks(marks)
local is_capped = false

if tonumber(close_us) > 0 then closed_until = math.max(closed_until, now + close_us) end
if limit.rate then
  if charge > 0 then
    local believed = believable(limit, charge + cost, tonumber(cost)) - cost
    is_capped, charge = believed < charge, believed
    marks = note_grant(marks, full_at, now)
    full_at = full_at_after(limit, full_at, now, charge)
  else
    full_at = give_back(marks, full_at, tonumber(granted_at), refill_time(limit, -charge))
  end
  if remaining ~= '' then
    local stated = now + refill_time(limit, math.max(0, limit.burst - remaining))
    if stated > full_at then full_at, marks = stated, parse_marks(no_more_to_give_back(now)) end
  end
end

allow_hash_when_out_of_memory(limit_key)
redis.call('HSET', limit_key, 'full_at', to_text(full_at), 'closed_until', to_text(closed_until), 'marks', marks_text(marks),
  'last_now', to_text(now), 'clock_skew', to_text(skew))
local ttl, busy_ms = redis.call('PTTL', limit_key), math.ceil(2 * (math.max(full_at, closed_until) - now) / 1000)
if ttl >= 0 and ttl < busy_ms then redis.call('PEXPIRE', limit_key, busy_ms) end
return is_capped and 2 or 1
