-- lib/once.lua: how a command that comes twice is told from two commands. Prepended to claim.lua.
-- A broken connection may deliver a copy of a command long after it was sent again over a new one, and answered, and
-- acted upon. So each claim has a number, higher than those before, and the highest seen is kept for an hour, which
-- outlives every such copy. Returns whether this number, or a higher one, was seen before.
local function seen_before(key, number)
  local last = tonumber(redis.call('SET', key, number, 'PX', 3600000, 'GET') or -1)
  if last > number then redis.call('SET', key, last, 'PX', 3600000) end
  return last >= number
end
