-- finish.lua: complete a batch of tasks: drop the lease, write result and reply, push what follows, count.
-- KEYS  1 this worker's active hash   2 stats   3 replies   4 waiters   5 waiting list
--       then for each task its result key, followed by its reply list where its mode is 'push'
-- ARGV  for each task: token, ttl in ms of result and reply, the result, reply mode, reply list's name (see lib/answer),
--       how many tasks follow, and those
-- Returns for each task 1, or 0 when its lease was lost: then nothing of it was written.
-- Guarantees: each task is fenced on its own, so one that was lost stops no other; sent twice, it changes nothing more.
--       HDEL, allowed when memory is short, is the first write: a full Redis can still be drained.

-- These fail on a key of another type before anything is written: Redis does not roll back.
redis.call('HLEN', KEYS[2])
redis.call('HLEN', KEYS[3])
redis.call('LLEN', KEYS[5])
local waited = redis.call('HLEN', KEYS[4]) > 0

local done, key, arg, count = {}, 6, 1, 0
while arg <= #ARGV do
  local result_key = KEYS[key]
  local reply = {mode = ARGV[arg + 3], name = ARGV[arg + 4]}
  key = key + 1
  if reply.mode == 'push' then
    reply.key = KEYS[key]
    key = key + 1
  end
  local held = redis.call('HDEL', KEYS[1], ARGV[arg])
  if held == 1 then
    answer(result_key, ARGV[arg + 1], ARGV[arg + 2], reply, KEYS[3], ARGV[arg])
    if waited then wake(KEYS[4], result_key, ARGV[arg + 2]) end
    for next = arg + 6, arg + 5 + ARGV[arg + 5] do redis.call('LPUSH', KEYS[5], ARGV[next]) end
    count = count + 1
  end
  done[#done + 1] = held
  arg = arg + 6 + ARGV[arg + 5]
end
if count > 0 then redis.call('HINCRBY', KEYS[2], 'complete', count) end
return done
