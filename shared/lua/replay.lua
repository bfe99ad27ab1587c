-- replay.lua: put a dead letter back on its queue as if it had just been pushed.
-- KEYS  1 dead   2 waiting list   3 stats   4 result key (none where no id could be read)
-- ARGV  1 the dead letter's time in ms   2 how its header begins: its serial
-- Returns 1, or 0 when there is no such dead letter (any more).
-- Guarantees: the producer's bytes go back exactly; the old result is gone, so that a waiter gets the new one. ZREM
--       comes before what takes memory: a full Redis takes it.

-- These fail on a key of another type before anything is written: Redis does not roll back.
redis.call('LLEN', KEYS[2])
redis.call('HLEN', KEYS[3])
for _, letter in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[1])) do
  if string.sub(letter, 1, #ARGV[2]) == ARGV[2] then
    local _, raw = split(letter)
    redis.call('ZREM', KEYS[1], letter)
    redis.call('LPUSH', KEYS[2], raw)
    redis.call('HINCRBY', KEYS[3], 'replayed', 1)
    if KEYS[4] then redis.call('DEL', KEYS[4]) end
    return 1
  end
end
return 0
