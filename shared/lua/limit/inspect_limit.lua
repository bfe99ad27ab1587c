-- inspect_limit.lua: reads the status of a limit.
-- KEYS  limit_key; slots: the calls in flight; waiting: the queues in which calls wait
-- ARGV  none
-- Returns {who defines it ('set', 'config', 'inline', or '' for no one), definition, tokens left ('' without a rate), how much longer
--       it is closed in us, calls in flight, the queues in which calls wait}.
-- Guarantees: reads only.
local limit_key, slots, waiting = unpack(KEYS)

local full_at, closed_until, last_now, clock_skew, last_slots_now, slots_seen =
  unpack(redis.call('HMGET', limit_key, 'full_at', 'closed_until', 'last_now', 'clock_skew', 'slots_now', 'slots_seen'))
for _, source in ipairs({'set', 'config', 'inline'}) do
  local definition = redis.call('HGET', limit_key, source)
  local limit = parse_definition(definition or nil)
  if limit then
    local now = monotonic(now_us(), last_now, clock_skew)
    local slots_now = slot_time(now, last_slots_now, slots_seen, math.huge)
    return {
      source, definition,
      limit.rate and to_text(tokens_left(limit, tonumber(full_at or 0), now)) or '',
      math.max(0, math.ceil((closed_until or 0) - now)),
      redis.call('ZCOUNT', slots, to_text(slots_now), '+inf'),
      redis.call('HKEYS', waiting),
    }
  end
end
return {'', '', '', 0, 0, {}}
