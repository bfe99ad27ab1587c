-- put_schedule.lua: adds a schedule, or replaces the one of this name.
-- KEYS  schedules, firings
-- ARGV  name; header: when it fires, one line of JSON; task; next_at_ms: when it fires next
-- Returns the time in ms at which it fires next.
-- Guarantees: a schedule that is put again with the same header keeps its next time, so that a deployment that repeats it skips no
--       firing. Sent twice, it changes nothing more. When Redis is out of memory it writes nothing.
local schedules, firings = unpack(KEYS)
local name, header, task, next_at_ms = unpack(ARGV)

local old = redis.call('HGET', schedules, name)
local old_next = redis.call('ZSCORE', firings, name)
redis.call('HSET', schedules, name, header .. '\n' .. task)
if old and old_next and split_entry(old) == header then return tonumber(old_next) end
redis.call('ZADD', firings, next_at_ms, name)
return tonumber(next_at_ms)
