-- fire.lua: push the task of a schedule whose time has come, and put down when it fires next.
-- KEYS  1 schedules   2 firings   3 waiting list   4 stats
-- ARGV  1 its name   2 its header   3 the time in ms that is due   4 the next one, '' for none
--       5 how the task that is pushed begins: "{" and the fields that this firing adds, with a comma
-- Returns 1, or 0 when this time was fired already, is not due by Redis TIME, or the schedule is another one by now: then nothing
--       was written.
-- Guarantees: each time of a schedule pushes one task, however many workers try and whichever of them die. The producer's
--       bytes behind their first "{" are pushed as they are. A full Redis refuses it whole, as the push comes first: the
--       schedule stays due.
local due = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or -1)
if due ~= tonumber(ARGV[3]) or due > now_ms() then return 0 end
local schedule = redis.call('HGET', KEYS[1], ARGV[1])
if not schedule then return 0 end
local header, task = split(schedule)
if header ~= ARGV[2] then return 0 end
-- These fail on a key of another type before anything is written: Redis does not roll back.
redis.call('LLEN', KEYS[3])
redis.call('HLEN', KEYS[4])
redis.call('LPUSH', KEYS[3], ARGV[5] .. string.sub(task, 2))
if ARGV[4] == '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
end
redis.call('HINCRBY', KEYS[4], 'fired', 1)
return 1
