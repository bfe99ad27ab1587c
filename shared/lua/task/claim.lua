-- claim.lua: takes due and waiting tasks off a queue for one worker, whose lease on them begins.
-- KEYS  waiting, handoff, scheduled, stored, watch; active: the tasks this worker holds; workers; claimed: the number of this
--       worker's last claim; paused
-- ARGV  worker: its id; request_id: "<worker>:<number>", the number higher with each claim; max_tasks (<= 100); lease_ms;
--       max_bytes: the task that reaches it is the last one, and one task is always taken
-- Returns {now_ms, due time in ms of the next scheduled task, or -1 for none, or -2 if the queue is paused, entry 1, entry 2, ...}.
--       The token of entry i is "<request_id>:<i>".
-- Guarantees: tasks due in `scheduled` come first, then `handoff`, then `waiting`. A script is atomic, so no one sees a task in two
--       places or in none. Sent again with the same request_id because a reply was lost, it returns the same tasks, as far as the
--       worker still holds them, and takes no others, however late the copy arrives: no token is given out twice. From a paused
--       queue it takes nothing. One that takes nothing renews no lease: a worker without tasks has none. Works when Redis is out of memory.
local waiting, handoff, scheduled, stored, watch, active, workers, claimed, paused = unpack(KEYS)
local worker, request_id, max_tasks, lease_ms, max_bytes = unpack(ARGV)

local room, bytes_left = tonumber(max_tasks), tonumber(max_bytes)
local now = now_ms()
local reply, fields = {now, -1}, {}

-- Like expect_type, and the lengths are needed below.
local waiting_count, handoff_count = redis.call('LLEN', waiting), redis.call('LLEN', handoff)
local scheduled_count = redis.call('ZCARD', scheduled)
expect_type('hash', active)
if scheduled_count > 0 then
  expect_type('hash', stored)
  expect_type('zset', watch)
end

local is_paused = redis.call('EXISTS', paused) == 1
allow_when_out_of_memory(active)
if is_repeated(claimed, tonumber(string.match(request_id, '%d+$'))) then
  room = 0
  local entry = redis.call('HGET', active, request_id .. ':1')
  while entry do
    reply[#reply + 1] = entry
    entry = redis.call('HGET', active, request_id .. ':' .. #reply - 1)
  end
end

if is_paused then
  reply[2] = -2
  return reply
end

local last_size = bytes_left
local function take(entry)
  reply[#reply + 1] = entry
  fields[#fields + 1] = request_id .. ':' .. #reply - 2
  fields[#fields + 1] = entry
  room, bytes_left, last_size = room - 1, bytes_left - #entry, #entry
end

-- How many tasks to read at a time: ten save commands, but of large tasks most would be copied only to be put back.
local function batch_size()
  return math.min(10, room, math.max(1, math.floor(bytes_left / last_size)))
end

-- The serials of due tasks that are taken, and of those that have ended meanwhile and are only removed.
local due = {}
if scheduled_count > 0 and room > 0 then
  for _, serial in ipairs(redis.call('ZRANGEBYSCORE', scheduled, '-inf', now, 'LIMIT', 0, room)) do
    if bytes_left <= 0 then break end
    local entry = redis.call('HGET', stored, serial)
    if entry then take(entry) end
    due[#due + 1] = serial
  end
end

local function take_from(list, count)
  while count > 0 and room > 0 and bytes_left > 0 do
    local raws = redis.call('RPOP', list, batch_size())
    for i, raw in ipairs(raws) do
      if i > 1 and bytes_left <= 0 then
        for rest = #raws, i, -1 do redis.call('RPUSH', list, raws[rest]) end
        break
      end
      take(request_id .. ':' .. #reply - 1 .. ' ' .. now .. ' 0 0 -\n' .. raw)
    end
    count = count - #raws
  end
end
take_from(handoff, handoff_count)
take_from(waiting, waiting_count)

if #due > 0 then
  redis.call('ZREMRANGEBYRANK', scheduled, 0, #due - 1)
  redis.call('HDEL', stored, unpack(due))
  redis.call('ZREM', watch, unpack(due))
end
if #fields > 0 then
  redis.call('HSET', active, unpack(fields))
  redis.call('ZADD', workers, now + lease_ms, worker)
end

if scheduled_count > #due then reply[2] = tonumber(redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')[2]) end
return reply
