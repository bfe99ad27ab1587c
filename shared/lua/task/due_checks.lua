-- due_checks.lua: lists the wait lists, and the parked tasks with a deadline, that are due for a check.
-- KEYS  watch
-- ARGV  recheck_in_ms: when each is due again, from now; max_checks (<= 100)
-- Returns {'<reason> <name>' for a wait list or '<reason> <name> <serial>' for a task in it, ...}.
-- Guarantees: each check is postponed, not dropped: one worker makes it at a time, and another one later should that worker die.
--       Works when Redis is out of memory.
local watch = unpack(KEYS)
local recheck_in_ms, max_checks = unpack(ARGV)

local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', watch, '-inf', now, 'LIMIT', 0, max_checks)
if #due == 0 then return due end
allow_when_out_of_memory(watch)
for _, name in ipairs(due) do redis.call('ZADD', watch, now + recheck_in_ms, name) end
return due
