-- lib/repeated.lua: detects a command that arrives a second time.
-- A broken connection may deliver a copy of a command long after the command was sent again over a new connection, answered
-- and acted upon. Each claim therefore has a number that is higher than all before it, and the highest number seen is kept for an
-- hour, longer than any such copy can take.
-- As text, like the numbers themselves: Redis takes as long to print a number as for a small command.
local NUMBER_TTL_MS = '3600000'

-- Whether this number or a higher one was seen before, by what is stored of the last one (false for nothing).
local function was_seen(last_number, number)
  return tonumber(last_number or -1) >= tonumber(number)
end

-- Remembers a number that was not seen before.
local function remember_number(key, number)
  redis.call('SET', key, number, 'PX', NUMBER_TTL_MS)
end
