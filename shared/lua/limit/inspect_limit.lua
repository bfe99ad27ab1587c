-- inspect_limit.lua: reads the status of a limit.
-- KEYS  limit_key; slots: the calls in flight; waiting: the queues in which calls wait
-- ARGV  none
-- Returns {who defines it ('set', 'config', 'inline', or '' for no one), the definition in force, the definitions by hand, of the
--       configuration and of tasks ('' for none), how much longer the configuration counts in us unless a worker states it again,
--       tokens left ('' without a rate), how much longer it is closed in us, since when in ms of Redis TIME, why, calls in flight,
--       the queues in which calls wait}.
-- Guarantees: reads only.
local limit_key, slots, waiting = unpack(KEYS)

local full_at, closed_until, closed_at, closed_by, last_now, clock_skew, last_slots_now, slots_seen =
  unpack(redis.call('HMGET', limit_key, 'full_at', 'closed_until', 'closed_at', 'closed_by', 'last_now', 'clock_skew', 'slots_now',
    'slots_seen'))
local now, skew = monotonic(now_us(), last_now, clock_skew)
local definitions = definitions_of(redis.call('HMGET', limit_key, unpack(DEFINITION_FIELDS)), 0)
local limit, in_force, source = definition_in_force(definitions, now)
if not limit then return {''} end

local tokens = ''
if limit.rate then
  local full_at_now = carry_bucket(definitions, limit, in_force, tonumber(full_at or 0), {}, now)
  tokens = to_text(tokens_left(limit, full_at_now, now))
end
local closed_us = math.max(0, math.ceil((closed_until or 0) - now))
return {
  source, in_force, definitions.set or '', definitions.config or '', definitions.inline or '',
  math.max(0, math.ceil((tonumber(definitions.config_until) or 0) - now)),
  tokens, closed_us,
  closed_us > 0 and math.floor(((tonumber(closed_at) or now) - skew) / 1000) or 0,
  closed_us > 0 and closed_by or '',
  redis.call('ZCOUNT', slots, to_text(slot_time(now, last_slots_now, slots_seen, math.huge)), '+inf'),
  redis.call('HKEYS', waiting),
}
