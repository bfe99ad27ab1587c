-- level.lua: how a limit stands.
-- KEYS  1 the limit   2 its flows   3 its places in flight
-- ARGV  none
-- Returns {who defines it ('set', 'config', 'inline', or '' for no one), definition, what is left in the bucket ('' without a
--       rate), closed for so many us yet, flows that wait, places in flight, until the last that waits may go in us}.
-- Guarantees: reads only.
local held = redis.call('HMGET', KEYS[1], 'set', 'config', 'inline', 'full', 'closed', 'seen', 'skew')
for i, name in ipairs({'set', 'config', 'inline'}) do
  local limit = definition(held[i] or nil)
  if limit then
    local now = limit_now(held[6], held[7])
    local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
    local rest = limit.rate and number(left(limit, tonumber(held[4] or 0), now)) or ''
    return {
      name, held[i], rest, math.max(0, math.ceil(tonumber(held[5] or 0) - now)),
      redis.call('ZCOUNT', KEYS[2], number(now), '+inf'), redis.call('ZCOUNT', KEYS[3], number(now), '+inf'),
      math.max(0, math.ceil(tonumber(last or 0) - now)),
    }
  end
end
return {'', '', '', 0, 0, 0, 0}
