-- unpark.lua: makes parked tasks available to workers: the first ones of a wait list, the last one, or a particular one.
-- KEYS  wait_list, stored, scheduled, stats
-- ARGV  serial: a particular task's, '' to select by position; selection: how many from the start (<= 100), or 'last' for the last one
-- Returns {serial, ...} of the tasks that can be claimed now; empty if there are none.
-- Guarantees: each task stays where it is, unchanged, and can be claimed at once by any worker; sent twice for one serial, it moves
--       once. Serials of tasks that have ended are removed on the way (<= 200). Works when Redis is out of memory: the first write is a
--       removal.
local wait_list, stored, scheduled, stats = unpack(KEYS)
local serial, selection = unpack(ARGV)

expect_type('zset', wait_list, scheduled)
expect_type('hash', stored)
local now, moved = now_ms(), {}

-- Moves one task. Its serial leaves the list even if the task is no longer stored.
local function unpark(task)
  redis.call('ZREM', wait_list, task)
  if redis.call('HEXISTS', stored, task) == 0 then return end
  redis.call('ZADD', scheduled, now, task)
  moved[#moved + 1] = task
end

if serial ~= '' then
  if redis.call('ZSCORE', wait_list, serial) then unpark(serial) end
else
  local rank, most = 0, tonumber(selection)
  if selection == 'last' then rank, most = -1, 1 end
  for _ = 1, 200 do
    local next_task = #moved < most and redis.call('ZRANGE', wait_list, rank, rank)[1]
    if not next_task then break end
    unpark(next_task)
  end
end
if #moved > 0 then count(stats, 'unparked', #moved) end
return moved
