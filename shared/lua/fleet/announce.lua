-- announce.lua: announces a worker, so that it is listed even while it holds no task.
-- KEYS  announced: the workers of the fleet, by when they count as gone unless they are announced again
-- ARGV  entry: the worker, its queues, its protocol and its release; lease_ms: until then, from now; keep_ms: how long one that is gone stays listed
-- Returns 1 if it was not listed, 0 if it was.
-- Guarantees: sent twice, it changes nothing more. It decides nothing: the leases of tasks are the queues' own. Works when Redis is out
--       of memory: the first write is a removal.
local announced = unpack(KEYS)
local entry, lease_ms, keep_ms = unpack(ARGV)

local now = now_ms()
redis.call('ZREMRANGEBYSCORE', announced, '-inf', now - keep_ms)
return redis.call('ZADD', announced, now + lease_ms, entry)
