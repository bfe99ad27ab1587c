-- due.lua: which schedules it is time to fire.
-- KEYS  1 schedules   2 firings
-- ARGV  1 most (<= 100)
-- Returns {now in ms, the time in ms at which the next one that is not named here fires or -1, then for each that is due its
--       name, the time in ms at which it was due, its header}.
-- Guarantees: nothing is changed; without a schedule it is one look. One whose definition is gone is not named.
local now = now_ms()
local reply, first = {now, -1}, redis.call('ZRANGE', KEYS[2], 0, ARGV[1], 'WITHSCORES')
for i = 1, #first, 2 do
  local name, at = first[i], tonumber(first[i + 1])
  if at > now or i > 2 * ARGV[1] then
    reply[2] = at
    break
  end
  local schedule = redis.call('HGET', KEYS[1], name)
  if schedule then
    reply[#reply + 1] = name
    reply[#reply + 1] = at
    reply[#reply + 1] = split(schedule)
  end
end
return reply
