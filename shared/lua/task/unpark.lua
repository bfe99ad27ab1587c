-- unpark.lua: makes parked tasks available to workers: the first ones of a wait list, the last one, or a particular one.
-- KEYS  wait_list, parked, scheduled, watch, stats
-- ARGV  list_name: '<reason> <name>'; serial: a particular task's, '' to select by position; selection: how many from the start
--       (<= 100), or 'last' for the last one
-- Returns {serial, ...} of the tasks that can be claimed now; empty if there are none.
-- Guarantees: each task moves unchanged and can be claimed at once by any worker; sent twice for one serial, it moves once. Works when
--       Redis is out of memory: the first write is a removal.
local wait_list, parked, scheduled, watch, stats = unpack(KEYS)
local list_name, serial, selection = unpack(ARGV)

expect_type('zset', wait_list, scheduled, watch)
expect_type('hash', parked, stats)
local now, moved = now_ms(), {}

-- Moves one task. Its serial leaves the list even if the task is no longer parked.
local function unpark(task)
  redis.call('ZREM', wait_list, task)
  redis.call('ZREM', watch, list_name .. ' ' .. task)
  local entry = redis.call('HGET', parked, task)
  if not entry then return end
  redis.call('HDEL', parked, task)
  redis.call('ZADD', scheduled, now, entry)
  moved[#moved + 1] = task
end

if serial ~= '' then
  unpark(serial)
else
  local rank, most = 0, tonumber(selection)
  if selection == 'last' then rank, most = -1, 1 end
  while #moved < most do
    local next_task = redis.call('ZRANGE', wait_list, rank, rank)[1]
    if not next_task then break end
    unpark(next_task)
  end
end
if #moved > 0 then redis.call('HINCRBY', stats, 'unparked', #moved) end
return moved
