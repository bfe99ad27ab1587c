-- heartbeat.lua: renews a worker's lease on all its tasks of a queue, and lists workers whose lease has ended.
-- KEYS  workers; active: the tasks this worker holds; replies, watch
-- ARGV  worker: its id; lease_ms
-- Returns {now_ms, tasks this worker holds, undelivered replies, wait lists and parked tasks due for a check,
--       id of a worker whose lease has ended, ...} (<= 10 ids).
-- Guarantees: the caller is never among those whose lease has ended; only Redis TIME decides. Works when Redis is out of memory.
local workers, active, replies, watch = unpack(KEYS)
local worker, lease_ms = unpack(ARGV)

local now = now_ms()
local held, undelivered = redis.call('HLEN', active), redis.call('HLEN', replies)
local due_checks = redis.call('ZCOUNT', watch, '-inf', now)
allow_when_out_of_memory(workers)
redis.call('ZADD', workers, now + lease_ms, worker)
local ended = redis.call('ZRANGEBYSCORE', workers, '-inf', now, 'LIMIT', 0, 10)
return {now, held, undelivered, due_checks, unpack(ended)}
