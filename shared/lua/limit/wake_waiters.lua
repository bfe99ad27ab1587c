-- wake_waiters.lua: makes those of some scheduled tasks due at once that wait for a limit.
-- KEYS  scheduled, stored
-- ARGV  json_name: the limit's name as headers have it, JSON with its quotes; max_bytes: the task that reaches it is the last one; then
--       the serials
-- Returns how many tasks it looked at: the first ones.
-- Guarantees: only tasks that hold a reservation of this limit become due; none is added or removed. Sent twice it does nothing more.
--       Works when Redis is out of memory, because changing a score needs no memory.
local scheduled, stored = unpack(KEYS)
local json_name, max_bytes = unpack(ARGV, 1, 2)

local now, needle, bytes_left, seen = now_ms(), '[' .. json_name .. ',', tonumber(max_bytes), 0
for i = 3, #ARGV do
  local serial = ARGV[i]
  local entry = redis.call('HGET', stored, serial)
  if entry and string.find(header_of(entry), needle, 1, true) then
    redis.call('ZADD', scheduled, 'XX', 'LT', now, serial)
  end
  seen, bytes_left = seen + 1, bytes_left - #(entry or '')
  if bytes_left <= 0 then break end
end
return seen
