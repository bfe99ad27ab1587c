-- drop.lua: delete a dead letter for good.
-- KEYS  1 dead   2 stats
-- ARGV  1 the dead letter's time in ms   2 how its header begins: its serial
-- Returns 1, or 0 when there is no such dead letter (any more).
-- Guarantees: only that one goes; its result stays until its time to live ends; a full Redis takes it.
redis.call('HLEN', KEYS[2]) -- Fails on a key of another type before anything is written: Redis does not roll back.
for _, letter in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[1])) do
  if string.sub(letter, 1, #ARGV[2]) == ARGV[2] then
    redis.call('ZREM', KEYS[1], letter)
    redis.call('HINCRBY', KEYS[2], 'dropped', 1)
    return 1
  end
end
return 0
