-- retry_at.lua: give a claimed task back, to be claimed again by any worker at a later time or at once.
-- KEYS  1 this worker's active hash   2 scheduled   3 stats
-- ARGV  1 token   2 wait in ms from now   3 not before this time in ms (0: no such bound)   4 the entry's new header
--       5 the counter to raise: 'retried' (an attempt failed), 'deferred' (no attempt was made), 'released' (a drain)
-- Returns the due time in ms (at most 2^53, beyond which a score is not exact), or 0 when the lease was lost: then
--       nothing was written.
-- Guarantees: fenced by the token; the task waits in Redis and holds no slot; its bytes stay as they are. HDEL comes
--       before what takes memory: a full Redis takes it.
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then return 0 end
-- These fail on a key of another type before anything is written: Redis does not roll back.
redis.call('ZCARD', KEYS[2])
redis.call('HLEN', KEYS[3])
local _, raw = split(entry)
local due = math.min(math.max(now_ms() + ARGV[2], tonumber(ARGV[3])), 2 ^ 53)
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], due, ARGV[4] .. '\n' .. raw)
redis.call('HINCRBY', KEYS[3], ARGV[5], 1)
return due
