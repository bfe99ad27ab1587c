-- lib/clock.lua: the one clock of a fleet. Prepended to every script that asks for the time.
-- Returns Redis TIME in whole milliseconds since the Unix epoch.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
