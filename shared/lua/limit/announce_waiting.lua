-- announce_waiting.lua: tells a limit that calls wait for it in a queue.
-- KEYS  limit_key; waiting: the queues in which calls wait, each with when it last announced one
-- ARGV  queue; group: the workers that serve the same queues share one leader; ttl_ms: for how long a queue is remembered
-- Returns how many us the lease of the worker that drains the wait lists has left; 0 if no worker holds one.
-- Guarantees: the calls were parked before this is sent, so a leader that finds the list empty without knowing of this announcement does
--       not forget the queue. Sent twice it does no harm.
local limit_key, waiting = unpack(KEYS)
local queue, group, ttl_ms = unpack(ARGV)

local last_now, clock_skew, lead = unpack(redis.call('HMGET', limit_key, 'last_now', 'clock_skew', 'lead:' .. group))
local now = monotonic(now_us(), last_now, clock_skew)
redis.call('HSET', waiting, queue, to_text(now))
redis.call('PEXPIRE', waiting, ttl_ms)
local lead_until = tonumber(string.match(lead or '', '^%S+ (%S+) ') or nil)
return math.max(0, math.ceil((lead_until or 0) - now))
