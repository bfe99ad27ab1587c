-- replay.lua: put a dead letter back on its queue as if it had just been pushed.
-- KEYS  1 dead   2 waiting list   3 stats   4 result key (none where no id could be read)
-- ARGV  1 the dead letter's time in ms   2 how its header begins: its serial
-- Returns 1, or 0 when there is no such dead letter (any more).
-- Guarantees: the producer's bytes go back exactly; the old result is gone, so that a waiter gets the new one.
if redis.call('TYPE', KEYS[2]).ok ~= 'list' and redis.call('EXISTS', KEYS[2]) == 1 then
  return redis.error_reply('WRONGTYPE the waiting list holds something else: nothing was moved')
end
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
