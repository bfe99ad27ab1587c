-- due_schedules.lua: lists the schedules that are due.
-- KEYS  schedules, firings
-- ARGV  max_schedules (<= 100)
-- Returns {now in ms, the time in ms at which the next one beyond this list fires, or -1, then for each that is due: its name, the time
--       in ms at which it was due, its header}.
-- Guarantees: reads only; without schedules it is a single read. A schedule whose definition is gone is not listed.
local schedules, firings = unpack(KEYS)
local max_schedules = unpack(ARGV)

local now = now_ms()
local reply, first = {now, -1}, redis.call('ZRANGE', firings, 0, max_schedules, 'WITHSCORES')
for i = 1, #first, 2 do
  local name, due_at = first[i], tonumber(first[i + 1])
  if due_at > now or i > 2 * max_schedules then
    reply[2] = due_at
    break
  end
  local schedule = redis.call('HGET', schedules, name)
  if schedule then
    reply[#reply + 1] = name
    reply[#reply + 1] = due_at
    reply[#reply + 1] = split_entry(schedule)
  end
end
return reply
