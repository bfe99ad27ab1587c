-- schedule.lua: put a schedule down, or take it away.
-- KEYS  1 schedules   2 firings
-- ARGV  1 its name   2 its header: one line of JSON, when it fires; '' to take it away   3 its task   4 when it fires next, in ms
-- Returns the time in ms at which it fires next; when it was taken away 1, or 0 when there was none.
-- Guarantees: one that is put down anew with the same header keeps its next time, so that a deployment that says again what
--       holds already skips no firing. Sent twice, it changes nothing more. A full Redis refuses it whole, but takes one away.

-- These fail on a key of another type before anything is written: Redis does not roll back.
local known = redis.call('HGET', KEYS[1], ARGV[1])
local next = redis.call('ZSCORE', KEYS[2], ARGV[1])
if ARGV[2] == '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '\n' .. ARGV[3])
if known and next and split(known) == ARGV[2] then return tonumber(next) end
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
return tonumber(ARGV[4])
