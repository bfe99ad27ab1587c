-- promote.lua: let a follower run: the next in line of a memo that no one leads, or one whose time is up.
-- KEYS  1 the memo's followers   2 following   3 scheduled   4 watch   5 stats
-- ARGV  1 the memo's hash   2 the follower's serial, '' for the next in line
-- Returns its serial, or '' when there is none (any more).
-- Guarantees: it moves as it is, to be claimed at once by any worker; sent twice for one serial, it moves once. ZREM comes
--       before what takes memory: a full Redis takes it.

-- These fail on a key of another type before anything is written: Redis does not roll back.
redis.call('ZCARD', KEYS[1])
redis.call('HLEN', KEYS[2])
redis.call('ZCARD', KEYS[3])
redis.call('ZCARD', KEYS[4])
redis.call('HLEN', KEYS[5])
while true do
  local serial = ARGV[2]
  if serial == '' then serial = redis.call('ZRANGE', KEYS[1], 0, 0)[1] end
  if not serial then return '' end
  redis.call('ZREM', KEYS[1], serial)
  redis.call('ZREM', KEYS[4], 'task ' .. ARGV[1] .. ' ' .. serial)
  local entry = redis.call('HGET', KEYS[2], serial)
  if entry then
    redis.call('HDEL', KEYS[2], serial)
    redis.call('ZADD', KEYS[3], now_ms(), entry)
    redis.call('HINCRBY', KEYS[5], 'promoted', 1)
    return serial
  end
  if ARGV[2] ~= '' then return '' end
end
