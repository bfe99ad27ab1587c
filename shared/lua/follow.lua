-- follow.lua: park a claimed task in a line, such as that behind the one that leads its memo.
-- KEYS  1 this worker's active hash   2 following   3 the line   4 watch   5 stats
-- ARGV  1 token   2 serial   3 the entry's new header   4 the line's name, '<kind> <name>'   5 when to look after the line, ms from now
--       6 the task's deadline in ms, '' without one   7 its place in the line, '' for behind those who came before
-- Returns 1, or 0 when the lease was lost: then nothing was written.
-- Guarantees: fenced by the token; the task waits in Redis and holds no slot; its bytes stay as they are. It is watched from
--       the same moment on, so that nobody's end can strand it. HDEL comes before what takes memory: a full Redis takes it.
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then return 0 end
-- These fail on a key of another type before anything is written: Redis does not roll back.
redis.call('HLEN', KEYS[2])
redis.call('ZCARD', KEYS[3])
redis.call('ZCARD', KEYS[4])
redis.call('HLEN', KEYS[5])
local _, raw = split(entry)
local now = now_ms()
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. '\n' .. raw)
redis.call('ZADD', KEYS[3], ARGV[7] == '' and now or ARGV[7], ARGV[2])
redis.call('ZADD', KEYS[4], 'NX', now + ARGV[5], ARGV[4])
if ARGV[6] ~= '' then redis.call('ZADD', KEYS[4], ARGV[6], ARGV[4] .. ' ' .. ARGV[2]) end
redis.call('HINCRBY', KEYS[5], 'followed', 1)
return 1
