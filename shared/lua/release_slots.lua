-- release_slots.lua: calls in flight have ended, or go on: their places are free, or kept for longer.
-- KEYS  1 the limit   2 its places in flight
-- ARGV  1 for how long in ms from now they are kept (0: not)   2... the tokens that hold one, each with how long in us its
--       call took (0: not to be counted)
-- Returns how many of them held one.
-- Guarantees: sent twice it frees, or keeps, nothing more; a place that ended by itself is not taken again. How long calls
--       take is smoothed, for those who wait for a place. ZREM and HDEL come first: a full Redis takes it.
local held = redis.call('HMGET', KEYS[1], 'seen', 'skew', 'took')
redis.call('ZCARD', KEYS[2]) -- Fails on a key of another type before anything is written: Redis does not roll back.
local now, took, count = limit_now(held[1], held[2]), tonumber(held[3] or 100000), 0
redis.call('HDEL', KEYS[1], '-')
for i = 2, #ARGV, 2 do
  if ARGV[1] ~= '0' then
    if redis.call('ZSCORE', KEYS[2], ARGV[i]) then
      redis.call('ZADD', KEYS[2], number(now + ARGV[1] * 1000), ARGV[i])
      count = count + 1
    end
  else
    count = count + redis.call('ZREM', KEYS[2], ARGV[i])
    if ARGV[i + 1] ~= '0' then took = took * 0.8 + ARGV[i + 1] * 0.2 end
  end
end
if held[1] and ARGV[1] == '0' and count > 0 then redis.call('HSET', KEYS[1], 'took', number(took)) end
if ARGV[1] ~= '0' and count > 0 then redis.call('PEXPIRE', KEYS[2], ARGV[1] * 2 + 60000) end
return count
