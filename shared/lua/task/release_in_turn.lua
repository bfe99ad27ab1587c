-- release_in_turn.lua: takes tasks from a wait list for one worker, whose lease on them begins, and reads who is next.
-- KEYS  wait_list; turns: the end of each key's last turn; costs: of the tasks in the list that do not cost 1; stored, watch; active: the
--       tasks this worker holds; workers, paused, stats
-- ARGV  list_name: '<reason> <name>'; worker: its id; lease_ms; max_bytes: the task that reaches it is the last one that is taken;
--       max_next: how many to read (<= 100); then for each task to take (<= 100): serial, token
-- Returns {tasks left in the list, -1 if the queue is paused; how many tasks were taken; for each its token and its entry; then the
--       first tasks that are left: serial, position, cost, perhaps with ' spent' behind it}.
-- Guarantees: a task that is not in the list any more is not taken; nothing is taken from a paused queue. Sent again because a reply was
--       lost, it returns the same tasks, as far as the worker still holds them, and takes no others. Serials of tasks that have ended
--       are removed on the way (<= 200), and an empty list leaves nothing behind. Works when Redis is out of memory: the first write is
--       a removal.
local wait_list, turns, costs, stored, watch, active, workers, paused, stats = unpack(KEYS)
local list_name, worker, lease_ms, max_bytes, max_next = unpack(ARGV, 1, 5)

local reply, bytes_left = {-1, 0}, tonumber(max_bytes)
if redis.call('EXISTS', paused) == 1 then return reply end
local has_costs = redis.call('HLEN', costs) > 0
local function take(token, entry)
  reply[2] = reply[2] + 1
  reply[#reply + 1] = token
  reply[#reply + 1] = entry
end

-- Read what is to be taken. What these tokens hold already was taken by an earlier copy.
local wanted, as_tokens = {}, {}
for i = 6, #ARGV, 2 do
  local serial, token = unpack(ARGV, i, i + 1)
  wanted[#wanted + 1] = serial
  as_tokens[#as_tokens + 1] = token
end
local serials, fields, ended, is_repeated = {}, {}, {}, false
local held = #wanted > 0 and redis.call('HMGET', active, unpack(as_tokens)) or {}
for i, entry in ipairs(held) do
  if entry and bytes_left > 0 then
    is_repeated = true
    take(as_tokens[i], entry)
  end
end
local positions = #wanted > 0 and not is_repeated and redis.call('ZMSCORE', wait_list, unpack(wanted)) or {}
for i, position in ipairs(positions) do
  if bytes_left <= 0 then break end
  local entry = position and redis.call('HGET', stored, wanted[i])
  if entry then
    take(as_tokens[i], entry)
    serials[#serials + 1] = wanted[i]
    fields[#fields + 1] = as_tokens[i]
    fields[#fields + 1] = entry
    bytes_left = bytes_left - #entry
  else
    ended[#ended + 1] = wanted[i]
  end
end

-- What may fail because a key has another type comes first, and of that what needs no memory.
local function forget(some)
  redis.call('ZREM', watch, unpack(some))
  redis.call('ZREM', wait_list, unpack(some))
  if has_costs then redis.call('HDEL', costs, unpack(some)) end
end
if #ended > 0 then forget(ended) end
if #serials > 0 then
  redis.call('ZSCORE', workers, worker)
  redis.call('ZREM', watch, unpack(serials))
  redis.call('ZADD', workers, redis.call('TIME')[1] * 1000 + lease_ms, worker)
  redis.call('ZREM', wait_list, unpack(serials))
  if has_costs then redis.call('HDEL', costs, unpack(serials)) end
  redis.call('HDEL', stored, unpack(serials))
  redis.call('HSET', active, unpack(fields))
  count(stats, 'unparked', #serials)
end

-- Who is next.
local gone, found, at, most = {}, 0, 0, tonumber(max_next)
while found < most and #gone < 200 do
  local some = redis.call('ZRANGE', wait_list, at, at + most - found - 1, 'WITHSCORES')
  if #some == 0 then break end
  for i = 1, #some, 2 do
    local serial = some[i]
    if redis.call('HEXISTS', stored, serial) == 1 then
      reply[#reply + 1] = serial
      reply[#reply + 1] = some[i + 1]
      reply[#reply + 1] = has_costs and redis.call('HGET', costs, serial) or '1'
      found = found + 1
    else
      gone[#gone + 1] = serial
    end
  end
  at = at + #some / 2
end
if #gone > 0 then forget(gone) end
reply[1] = redis.call('ZCARD', wait_list)
if reply[1] == 0 then
  redis.call('ZREM', watch, list_name)
  redis.call('DEL', turns, costs)
elseif reply[1] % 64 == 0 and redis.call('HLEN', turns) > reply[1] + 1000 then
  -- The turns of many keys that wait no longer. Without them, the others only lose what they had used beyond their share.
  redis.call('DEL', turns)
end
return reply
