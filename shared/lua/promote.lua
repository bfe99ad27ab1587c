-- promote.lua: let tasks of a line run: the next ones, the last ones, or one whose time is up.
-- KEYS  1 the line   2 following   3 scheduled   4 watch   5 stats
-- ARGV  1 the line's name, '<kind> <name>'   2 a task's serial, '' for the next in line   3 how many of the next (<= 100), or 'last' for the last one
-- Returns {serial, ...}, of those that run now: none when there are none (any more).
-- Guarantees: each moves as it is, to be claimed at once by any worker; sent twice for one serial, it moves once. ZREM comes
--       before what takes memory: a full Redis takes it.

-- These fail on a key of another type before anything is written: Redis does not roll back.
redis.call('ZCARD', KEYS[1])
redis.call('HLEN', KEYS[2])
redis.call('ZCARD', KEYS[3])
redis.call('ZCARD', KEYS[4])
redis.call('HLEN', KEYS[5])
local now, moved = now_ms(), {}
local most, at = tonumber(ARGV[3]), 0
if ARGV[3] == 'last' then most, at = 1, -1 end
while #moved < most do
  local serial = ARGV[2]
  if serial == '' then serial = redis.call('ZRANGE', KEYS[1], at, at)[1] end
  if not serial then break end
  redis.call('ZREM', KEYS[1], serial)
  redis.call('ZREM', KEYS[4], ARGV[1] .. ' ' .. serial)
  local entry = redis.call('HGET', KEYS[2], serial)
  if entry then
    redis.call('HDEL', KEYS[2], serial)
    redis.call('ZADD', KEYS[3], now, entry)
    moved[#moved + 1] = serial
  end
  if ARGV[2] ~= '' then break end
end
if #moved > 0 then redis.call('HINCRBY', KEYS[5], 'promoted', #moved) end
return moved
