-- drop_dead.lua: deletes a dead letter for good.
-- KEYS  dead, stats
-- ARGV  died_at_ms: the dead letter's time; header_start: how its header begins, with its serial
-- Returns 1, or 0 if the dead letter is gone.
-- Guarantees: deletes only this one; its result stays until its time to live ends. Works when Redis is out of memory.
local dead, stats = unpack(KEYS)
local died_at_ms, header_start = unpack(ARGV)

expect_type('hash', stats)
for _, letter in ipairs(redis.call('ZRANGEBYSCORE', dead, died_at_ms, died_at_ms)) do
  if string.sub(letter, 1, #header_start) == header_start then
    redis.call('ZREM', dead, letter)
    redis.call('HINCRBY', stats, 'dropped', 1)
    return 1
  end
end
return 0
