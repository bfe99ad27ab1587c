-- parked_page.lua: reads the first tasks of a wait list, in their order.
-- KEYS  wait_list, stored, watch
-- ARGV  list_name: '<reason> <name>'; max_tasks (<= 100); max_bytes: the task that reaches it is the last one
-- Returns {tasks in the list, serial, entry, serial, entry, ...}.
-- Guarantees: the tasks stay parked; whoever ends or unparks one is fenced by its serial in `stored`. Serials that are no longer
--       stored are removed from the list, and an empty list is no longer watched. Works when Redis is out of memory.
local wait_list, stored, watch = unpack(KEYS)
local list_name, max_tasks, max_bytes = unpack(ARGV)

local bytes_left, reply, gone = tonumber(max_bytes), {0}, {}
expect_type('zset', watch)
for _, serial in ipairs(redis.call('ZRANGE', wait_list, 0, max_tasks - 1)) do
  if bytes_left <= 0 then break end
  local entry = redis.call('HGET', stored, serial)
  if entry then
    reply[#reply + 1] = serial
    reply[#reply + 1] = entry
    bytes_left = bytes_left - #entry
  else
    gone[#gone + 1] = serial
  end
end
if #gone > 0 then
  redis.call('ZREM', wait_list, unpack(gone))
  redis.call('ZREM', watch, unpack(gone))
end
reply[1] = redis.call('ZCARD', wait_list)
if reply[1] == 0 then redis.call('ZREM', watch, list_name) end
return reply
