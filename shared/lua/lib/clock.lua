-- lib/clock.lua: the fleet's one clock.

-- Redis TIME in microseconds since the Unix epoch.
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- The same in whole milliseconds.
local function now_ms()
  return math.floor(now_us() / 1000)
end
