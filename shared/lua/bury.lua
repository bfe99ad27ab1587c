-- bury.lua: end a task without a good answer: a dead letter, and a result that says the same.
-- KEYS  1 this worker's active hash   2 dead   3 stats   4 replies   5 waiters
--       6 result key (none where no id could be read)   7 reply list, where the mode is 'push'
-- ARGV  1 token   2 the dead letter's header: one line of JSON   3 ttl in ms   4 the result   5 reply mode   6 reply list's name
-- Returns 1, or 0 when the lease was lost: then nothing was written.
-- Guarantees: fenced by the token; the dead letter is header, newline, the producer's bytes exactly. HDEL comes before
--       what takes memory: a full Redis takes it.
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then return 0 end
-- These fail on a key of another type before anything is written: Redis does not roll back.
redis.call('ZCARD', KEYS[2])
redis.call('HLEN', KEYS[3])
redis.call('HLEN', KEYS[4])
redis.call('HLEN', KEYS[5])
local _, raw = split(entry)
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], now_ms(), ARGV[2] .. '\n' .. raw)
redis.call('HINCRBY', KEYS[3], 'dead', 1)
if KEYS[6] then
  answer(KEYS[6], ARGV[3], ARGV[4], {mode = ARGV[5], name = ARGV[6], key = KEYS[7]}, KEYS[4], ARGV[1])
  wake(KEYS[5], KEYS[6], ARGV[4])
end
return 1
