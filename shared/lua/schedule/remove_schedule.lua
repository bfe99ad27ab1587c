-- remove_schedule.lua: removes a schedule.
-- KEYS  schedules, firings
-- ARGV  name
-- Returns 1, or 0 if there was none of this name.
-- Guarantees: it fires no more; tasks that it pushed before stay. Works when Redis is out of memory.
local schedules, firings = unpack(KEYS)
local name = unpack(ARGV)

expect_type('hash', schedules)
redis.call('ZREM', firings, name)
return redis.call('HDEL', schedules, name)
