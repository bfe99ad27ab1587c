-- hasten.lua: let tasks that wait for a limit ask again at once, a part of the scheduled ones at a time.
-- KEYS  1 scheduled
-- ARGV  1 the limit's name as it stands in headers: JSON with its quotes   2 the rank to begin at   3 how many to look at
-- Returns how many it looked at: 0 behind the last.
-- Guarantees: only those that were given a time by this limit are made due; none leaves the set, none comes in. Sent twice it
--       does nothing more. A full Redis takes it: a score that changes takes no memory.
local entries = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[2] + ARGV[3] - 1)
local now, needle = now_ms(), '[' .. ARGV[1] .. ','
for _, entry in ipairs(entries) do
  if string.find(split(entry), needle, 1, true) then redis.call('ZADD', KEYS[1], 'XX', 'LT', now, entry) end
end
return #entries
