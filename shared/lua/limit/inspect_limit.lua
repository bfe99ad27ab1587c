-- inspect_limit.lua: reads the status of a limit.
-- KEYS  limit_key, reserved; slots: the calls in flight; queued
-- ARGV  max_keys: how many of the fairness keys that wait are named
-- Returns {who defines it ('set', 'config', 'inline', or '' for no one), the definition in force, the definitions by hand, of the
--       configuration and of tasks ('' for none), how much longer the configuration counts in us unless a worker states it again,
--       tokens left ('' without a rate), how much longer it is closed in us, since when in ms of Redis TIME, why, fairness keys that wait,
--       calls in flight, us until the last one that waits may go, {fairness key, us until its last call may go, ...}}.
-- Guarantees: reads only. The keys that wait longest are named.
local limit_key, reserved, slots, queued = unpack(KEYS)
local max_keys = unpack(ARGV)

local full_at, closed_until, closed_at, closed_by, last_now, clock_skew, last_slots_now, slots_seen =
  unpack(redis.call('HMGET', limit_key, 'full_at', 'closed_until', 'closed_at', 'closed_by', 'last_now', 'clock_skew', 'slots_now',
    'slots_seen'))
local now, skew = monotonic(now_us(), last_now, clock_skew)
local definitions = definitions_of(redis.call('HMGET', limit_key, unpack(DEFINITION_FIELDS)))
local limit, in_force, source = definition_in_force(definitions, now)
if not limit then return {''} end

local tokens = ''
if limit.rate then
  tokens = to_text(tokens_left(limit, full_at_under(definitions, limit, in_force, tonumber(full_at or 0), now), now))
end
local closed_us = math.max(0, math.ceil((closed_until or 0) - now))
local waiting, last_turn = {}, now
for _, key in ipairs({queued, reserved}) do
  local last = redis.call('ZRANGE', key, -math.max(1, max_keys), -1, 'WITHSCORES')
  for i = 1, #last, 2 do
    local at = tonumber(last[i + 1])
    if at > now and tonumber(max_keys) > 0 then
      waiting[#waiting + 1] = last[i]
      waiting[#waiting + 1] = math.ceil(at - now)
    end
    last_turn = math.max(last_turn, at)
  end
end
return {
  source, in_force, definitions.set or '', definitions.config or '', definitions.inline or '',
  math.max(0, math.ceil((tonumber(definitions.config_until) or 0) - now)),
  tokens, closed_us,
  closed_us > 0 and math.floor(((tonumber(closed_at) or now) - skew) / 1000) or 0,
  closed_us > 0 and closed_by or '',
  redis.call('ZCOUNT', reserved, to_text(now), '+inf'),
  redis.call('ZCOUNT', slots, to_text(slot_time(now, last_slots_now, slots_seen, math.huge)), '+inf'),
  math.ceil(last_turn - now), waiting,
}
