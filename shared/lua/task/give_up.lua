-- give_up.lua: gives a task back that its worker could not go on with, and counts a crash.
-- KEYS  active: the tasks this worker holds; scheduled, stored, stats
-- ARGV  token; wait_ms: how long the task waits after its first crash; the wait doubles with each further one, up to 4,096 times this
-- Returns 1, or 0 if the lease was lost: then nothing was written.
-- Guarantees: fenced by the token. The crash counts whether or not the task had started, because this task is known to be at fault. Its
--       bytes and everything else in its header stay as they are. Works when Redis is out of memory: the first write is a removal.
local active, scheduled, stored, stats = unpack(KEYS)
local token, wait_ms = unpack(ARGV)

local entry = redis.call('HGET', active, token)
if not entry then return 0 end
expect_type('zset', scheduled)
expect_type('hash', stored)
local header, raw = split_entry(entry)
local serial, first_seen, crashes, started, state = string.match(header, '^(%S+) (%S+) (%d+) (%d) (.*)$')
if serial then
  entry = table.concat({serial, first_seen, crashes + 1, started, state}, ' ') .. '\n' .. raw
  wait_ms = wait_ms * 2 ^ math.min(tonumber(crashes), 12)
end
redis.call('HDEL', active, token)
-- What is not an entry goes by its token, which is as unique as a serial.
redis.call('HSET', stored, serial or token, entry)
redis.call('ZADD', scheduled, now_ms() + wait_ms, serial or token)
count(stats, 'given_up', 1)
return 1
