-- bury.lua: end a task without a good answer, wherever it is: a dead letter, a result that says the same, and
-- what follows.
-- KEYS  1 where the task is   2 dead   3 stats   4 replies   5 waiters   6 waiting list
--       7 result key (none where no id could be read)   8 reply list, where the mode is 'push'
-- ARGV  1 what that place is: 'hash', 'zset' or 'list'   2 the field of the hash (in a worker's hands: its token), or the member
--       3 the dead letter's header: one line of JSON   4 its token or serial   5 ttl in ms   6 the result
--       7 reply mode   8 reply list's name   9... tasks that follow
-- Returns 1, or 0 when the task is not there (any more), as when a worker lost its lease: then nothing was written.
-- Guarantees: fenced by the place itself; the dead letter is header, newline, the producer's bytes exactly. A removal comes
--       before what takes memory: a full Redis takes it.

-- These fail on a key of another type before anything is written: Redis does not roll back.
redis.call('ZCARD', KEYS[2])
redis.call('HLEN', KEYS[3])
redis.call('HLEN', KEYS[4])
redis.call('HLEN', KEYS[5])
redis.call('LLEN', KEYS[6])

-- Takes the task out of its place. Returns the producer's bytes, or nil.
local function take()
  if ARGV[1] == 'list' then
    -- From the right, where tasks are taken, and so where it was looked for.
    return redis.call('LREM', KEYS[1], -1, ARGV[2]) == 1 and ARGV[2] or nil
  end
  local entry = ARGV[2]
  if ARGV[1] == 'hash' then
    entry = redis.call('HGET', KEYS[1], ARGV[2])
    if not entry then return nil end
    redis.call('HDEL', KEYS[1], ARGV[2])
  elseif redis.call('ZREM', KEYS[1], entry) == 0 then
    return nil
  end
  local _, raw = split(entry)
  return raw
end

local raw = take()
if not raw then return 0 end
redis.call('ZADD', KEYS[2], now_ms(), ARGV[3] .. '\n' .. raw)
redis.call('HINCRBY', KEYS[3], 'dead', 1)
if KEYS[7] then
  answer(KEYS[7], ARGV[5], ARGV[6], {mode = ARGV[7], name = ARGV[8], key = KEYS[8]}, KEYS[4], ARGV[4])
  wake(KEYS[5], KEYS[7], ARGV[6])
end
for next = 9, #ARGV do redis.call('LPUSH', KEYS[6], ARGV[next]) end
return 1
