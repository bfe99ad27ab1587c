-- watch_list.lua: sets when a wait list is checked next, unless it is empty.
-- KEYS  wait_list, watch
-- ARGV  list_name: '<reason> <name>'; check_in_ms: from now
-- Returns how many tasks the list has.
-- Guarantees: an empty list is no longer watched; whoever parks a task in it watches it again. Works when Redis is out of memory.
local wait_list, watch = unpack(KEYS)
local list_name, check_in_ms = unpack(ARGV)

local waiting = redis.call('ZCARD', wait_list)
expect_type('zset', watch)
allow_when_out_of_memory(watch)
if waiting == 0 then
  redis.call('ZREM', watch, list_name)
else
  redis.call('ZADD', watch, now_ms() + check_in_ms, list_name)
end
return waiting
