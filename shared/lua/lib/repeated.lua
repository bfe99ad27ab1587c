-- lib/repeated.lua: detects a command that arrives a second time.
-- A broken connection may deliver a copy of a command long after the command was sent again over a new connection, answered
-- and acted upon. Each claim therefore has a number that is higher than all before it, and the highest number seen is kept for an
-- hour, longer than any such copy can take.
local NUMBER_TTL_MS = 3600000

-- Whether this number or a higher one was seen before; remembers it.
local function is_repeated(key, number)
  local last = tonumber(redis.call('SET', key, number, 'PX', NUMBER_TTL_MS, 'GET') or -1)
  if last > number then redis.call('SET', key, last, 'PX', NUMBER_TTL_MS) end
  return last >= number
end
