-- heartbeat.lua: renews a worker's lease on all its tasks of a queue, and shows it what there is to do and the leases of the others.
-- KEYS  workers; active: the tasks this worker holds; waiting, handoff, scheduled, replies, watch, firings
-- ARGV  worker: its id; lease_ms
-- Returns {now_ms, tasks this worker holds, undelivered replies, checks due within a quarter of the lease, whether the queue holds
--       anything that a worker must attend to, then for each lease in force (<= 100): the worker's id, when its lease ends by its last
--       renewal}. That time is a value to compare: a lease has ended when another worker has seen it unchanged for its whole length.
-- Guarantees: a worker that holds nothing has no lease, and is not listed. Of more than a hundred leases, those that are renewed no
--       longer are among the first or last by their ends, whichever way the clock of Redis was set, and those are returned. Replies
--       and deadlines of another type cost no worker its lease. Works when Redis is out of memory.
local workers, active, waiting, handoff, scheduled, replies, watch, firings = unpack(KEYS)
local worker, lease_ms = unpack(ARGV)
local HALF = 50 -- Half of the leases that are returned.

local now = now_ms()
local held, undelivered = redis.call('HLEN', active), math.max(0, length_if('hash', replies))
local due_checks = length_if('zset', watch) > 0 and redis.call('ZCOUNT', watch, '-inf', now + lease_ms / 4) or 0
if held > 0 then
  allow_when_out_of_memory(workers)
  redis.call('ZADD', workers, now + lease_ms, worker)
else
  redis.call('ZREM', workers, worker)
end

local reply = {now, held, undelivered, due_checks, 1}
local function add_leases(from, to)
  for _, value in ipairs(redis.call('ZRANGE', workers, from, to, 'WITHSCORES')) do reply[#reply + 1] = value end
end
local leases = redis.call('ZCARD', workers)
if leases > 2 * HALF then
  add_leases(0, HALF - 1)
  add_leases(-HALF, -1)
elseif leases > 0 then
  add_leases(0, -1)
else
  reply[5] = math.min(1, redis.call('EXISTS', waiting, handoff, scheduled, replies, watch, firings))
end
return reply
