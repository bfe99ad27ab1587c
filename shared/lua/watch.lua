-- watch.lua: which lines and which of the tasks in them it is time to look after.
-- KEYS  1 watch
-- ARGV  1 when to look again, ms from now   2 most (<= 100)
-- Returns {'<kind> <name>' for a line or '<kind> <name> <serial>' for a task in it, ...}.
-- Guarantees: each is put off, not dropped: one worker looks at a time, and another one later should this one die.
--       A full Redis takes it.
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
if #due == 0 then return due end
write_though_full(KEYS[1])
for _, name in ipairs(due) do redis.call('ZADD', KEYS[1], now + ARGV[1], name) end
return due
