-- heartbeat.lua: renew the lease that a worker has on all its tasks of a queue, and see whose has ended.
-- KEYS  1 workers   2 this worker's active hash   3 replies   4 watch
-- ARGV  1 worker id   2 lease in ms
-- Returns {now_ms, tasks this worker holds, undelivered replies, lines and tasks in them to look after,
--       id of a worker whose lease has ended, ...} (<= 10 ids).
-- Guarantees: a worker's own lease is never among those that ended; Redis TIME alone decides; a full Redis takes it.
local now = now_ms()
local held, undelivered = redis.call('HLEN', KEYS[2]), redis.call('HLEN', KEYS[3])
local watched = redis.call('ZCOUNT', KEYS[4], '-inf', now)
write_though_full(KEYS[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
local ended = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 10)
return {now, held, undelivered, watched, unpack(ended)}
