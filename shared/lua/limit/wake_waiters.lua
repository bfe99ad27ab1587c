-- wake_waiters.lua: makes tasks that wait for a limit due at once, one page of the scheduled tasks at a time.
-- KEYS  scheduled
-- ARGV  json_name: the limit's name as headers have it, JSON with its quotes; offset: the rank to start at; page_size
-- Returns how many tasks it looked at: 0 beyond the last one.
-- Guarantees: only tasks that hold a reservation of this limit become due; none is added or removed. Sent twice it does nothing more.
--       Works when Redis is out of memory, because changing a score needs no memory.
local scheduled = unpack(KEYS)
local json_name, offset, page_size = unpack(ARGV)

local entries = redis.call('ZRANGE', scheduled, offset, offset + page_size - 1)
local now, needle = now_ms(), '[' .. json_name .. ','
for _, entry in ipairs(entries) do
  if string.find(split_entry(entry), needle, 1, true) then redis.call('ZADD', scheduled, 'XX', 'LT', now, entry) end
end
return #entries
