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

-- Like expect_type, and what they reply is needed below. `handoff` is the first key that is written.
local next_due = tonumber(redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')[2])
local waiting_count = redis.call('LLEN', waiting)
expect_type('hash', active)
local is_due = next_due and next_due <= now
if is_due then
  expect_type('hash', stored)
  expect_type('zset', watch)
end

local paused_since, last_number = unpack(redis.call('MGET', paused, claimed))
local number = string.sub(request_id, #worker + 2)
local is_repeated = was_seen(last_number, number)
if is_repeated then
  room = 0
  local entry = redis.call('HGET', active, request_id .. ':1')
  while entry do
    reply[#reply + 1] = entry
    entry = redis.call('HGET', active, request_id .. ':' .. #reply - 1)
  end
end

if paused_since then
  allow_when_out_of_memory(active)
  if not is_repeated then remember_number(claimed, number) end
  reply[2] = -2
  return reply
end

local taken = 0
-- Formatted, as Lua's own conversion of a number to a string takes several times as long.
local function next_token()
  taken = taken + 1
  return request_id .. ':' .. string.format('%d', taken)
end

-- The first two show how large they are.
local last_size = bytes_left / 2
local function take(token, entry)
  reply[taken + 2] = entry
  fields[2 * taken - 1], fields[2 * taken] = token, entry
  room, bytes_left, last_size = room - 1, bytes_left - #entry, #entry
end

-- How many tasks to read at a time: ten save commands, but of large tasks most would be copied only to be put back.
local function batch_size()
  return math.min(10, room, math.max(1, math.floor(bytes_left / last_size)))
end

-- The serials of due tasks that are taken, and of those that have ended meanwhile and are only removed.
local due = {}
if is_due and room > 0 then
  for _, serial in ipairs(redis.call('ZRANGEBYSCORE', scheduled, '-inf', now, 'LIMIT', 0, room)) do
    if bytes_left <= 0 then break end
    local entry = redis.call('HGET', stored, serial)
    if entry then take(next_token(), entry) end
    due[#due + 1] = serial
  end
end

-- What stands between the serial and the bytes of a task that was never claimed before.
local fresh = string.format(' %d 0 0 -\n', now)
local function take_from(list)
  local asked, raws = 0, {}
  while #raws == asked and room > 0 and bytes_left > 0 do
    asked = batch_size()
    raws = redis.call('RPOP', list, string.format('%d', asked)) or {}
    for i, raw in ipairs(raws) do
      if i > 1 and bytes_left <= 0 then
        for rest = #raws, i, -1 do redis.call('RPUSH', list, raws[rest]) end
        break
      end
      local token = next_token()
      take(token, token .. fresh .. raw)
    end
  end
end
take_from(handoff)
if waiting_count > 0 then take_from(waiting) end

if #due > 0 then
  redis.call('ZREMRANGEBYRANK', scheduled, 0, #due - 1)
  redis.call('HDEL', stored, unpack(due))
  redis.call('ZREM', watch, unpack(due))
end
if taken > 0 then
  redis.call('HSET', active, unpack(fields))
  redis.call('ZADD', workers, string.format('%d', now + lease_ms), worker)
end
if not is_repeated then
  -- One that asks for nothing has written nothing yet.
  if max_tasks == '0' then allow_when_out_of_memory(active) end
  remember_number(claimed, number)
end

if #due > 0 then next_due = tonumber(redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')[2]) end
reply[2] = next_due or -1
return reply
