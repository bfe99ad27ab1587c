-- reset_limit.lua: fills the bucket of a limit and opens the limit if an upstream had it closed.
-- KEYS  limit_key, reserved, queued
-- ARGV  none
-- Returns 1, or 0 if there is no such limit.
-- Guarantees: its definitions and the calls in flight stay. What those are charged or given back afterwards does not fill it again.
--       Works when Redis is out of memory: the first write is a removal.
local limit_key, reserved, queued = unpack(KEYS)

local last_now, clock_skew = unpack(redis.call('HMGET', limit_key, 'last_now', 'clock_skew'))
expect_type('zset', reserved, queued)
if redis.call('EXISTS', limit_key) == 0 then return 0 end
redis.call('DEL', reserved, queued)
redis.call('HDEL', limit_key, 'full_at', 'closed_until', 'closed_at', 'closed_by', 'next_slot_at')
-- A call that was admitted before this has nothing to give back.
redis.call('HSET', limit_key, 'last_full_at', to_text((monotonic(now_us(), last_now, clock_skew))))
return 1
