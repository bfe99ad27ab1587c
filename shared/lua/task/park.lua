-- park.lua: parks a claimed task in a wait list, such as the one behind the leader of its memo.
-- KEYS  active: the tasks this worker holds; stored, wait_list, watch, stats
-- ARGV  token, serial; header: the entry's new header; list_name: '<reason> <name>'; check_in_ms: when to check on the list, from
--       now; deadline_ms: the task's deadline, '' for none; position: its place in the list, '' for the end
-- Returns 1, or 0 if the lease was lost: then nothing was written.
-- Guarantees: fenced by the token; the task waits in Redis and occupies no worker; its bytes stay as they are. The list and the deadline
--       are watched from the same moment on, so that no worker's death can strand the task. Works when Redis is out of memory: the
--       first write is a removal.
local active, stored, wait_list, watch, stats = unpack(KEYS)
local token, serial, header, list_name, check_in_ms, deadline_ms, position = unpack(ARGV)

local entry = redis.call('HGET', active, token)
if not entry then return 0 end
expect_type('hash', stored)
expect_type('zset', wait_list, watch)
local _, raw = split_entry(entry)
local now = now_ms()
redis.call('HDEL', active, token)
redis.call('HSET', stored, serial, header .. '\n' .. raw)
redis.call('ZADD', wait_list, position == '' and now or position, serial)
redis.call('ZADD', watch, 'NX', now + check_in_ms, list_name)
if deadline_ms ~= '' then redis.call('ZADD', watch, deadline_ms, serial) end
count(stats, 'parked', 1)
return 1
