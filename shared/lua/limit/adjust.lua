-- adjust.lua: corrects a limit by what was learned after it admitted a call.
-- KEYS  limit_key
-- ARGV  close_us: admit nothing for this long from now, 0 for no change; closed_by: why, for people; charge: cost to take in addition,
--       negative to give back; cost: what the call had taken; remaining: admit at most this much at once from now on, '' for no change;
--       granted_at: the moment for which the limit granted the call; said_by: who says so: the 'fleet' itself, the response of an
--       'upstream' that the configuration names this limit for, or the response to any other 'task'
-- Returns 1, or 2 if the charge is not believable and was capped (see lib/bucket), or 0 if the limit no longer exists, or 3 if the
--       response has no say in it.
-- Guarantees: what operators define is not moved by the response to a task that merely names it. A limit is only ever closed for longer.
--       What is given back counts as far as the bucket would not have been full since, so it never grants more than if the call had not
--       asked. Sent twice, it errs on the side of fewer calls, except for giving back. Works when Redis is out of memory.
local limit_key = unpack(KEYS)
local close_us, closed_by, charge, cost, remaining, granted_at, said_by = unpack(ARGV)

local values = redis.call('HMGET', limit_key, 'full_at', 'closed_until', 'marks', 'last_now', 'clock_skew', unpack(DEFINITION_FIELDS))
local full_at, closed_until, marks, last_now, clock_skew = unpack(values, 1, 5)
local now, skew = monotonic(now_us(), last_now, clock_skew)
local definitions = definitions_of(values, 5)
local _, _, defined_by = definition_in_force(definitions, now)
-- The next request takes the bucket over to another definition.
local limit = defined_by and parse_definition(definitions.in_force)
if not limit then return 0 end
if said_by == 'task' and defined_by ~= 'inline' then return 3 end
charge, full_at, closed_until, marks = tonumber(charge), tonumber(full_at or 0), tonumber(closed_until or 0), parse_marks(marks)
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
    marks = note_grant(marks, full_at, now)
    full_at = full_at_after(limit, full_at, now, charge)
  else
    full_at = give_back(marks, full_at, tonumber(granted_at), refund_time(limit, -charge))
  end
  if remaining ~= '' then
    local stated = now + refill_time(limit, math.max(0, limit.burst - remaining))
    if stated > full_at then full_at, marks = stated, parse_marks(no_more_to_give_back(now)) end
  end
end

allow_hash_when_out_of_memory(limit_key)
redis.call('HSET', limit_key, 'full_at', to_text(full_at), 'closed_until', to_text(closed_until), 'marks', marks_text(marks),
  'last_now', to_text(now), 'clock_skew', to_text(skew), unpack(closure))
local ttl, busy_ms = redis.call('PTTL', limit_key), math.ceil(2 * (math.max(full_at, closed_until) - now) / 1000)
if ttl >= 0 and ttl < busy_ms then redis.call('PEXPIRE', limit_key, busy_ms) end
return is_capped and 2 or 1
