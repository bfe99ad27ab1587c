-- park_in_turn.lua: parks claimed tasks in a wait list whose order is fair between keys.
-- KEYS  active: the tasks this worker holds; stored, wait_list; turns: the end of each key's last turn; costs: of the tasks in the list
--       that do not cost 1, or have ' spent' behind it: see lib/budget; watch, stats
-- ARGV  list_name: '<reason> <name>'; check_in_ms: when to check on the list, from now; then for each task: token, serial, header: the
--       entry's new header; deadline_ms: the task's deadline, '' for none; cost, fairness_key, position: its place in the list, '' for
--       the next turn of its key; dies_when_spent: 1 if it does not wait for a limit that is spent
-- Returns for each task 1, or 0 if the lease was lost: then nothing was written of it.
-- Guarantees: fenced by the tokens; the tasks wait in Redis and occupy no worker; their bytes stay as they are. The list and the
--       deadlines are watched from the same moment on, so that no worker's death can strand a task. Turns follow start-time fair queueing
--       (P. Goyal, H. Vin, H. Cheng, 1996): keys with tasks in the list get equal shares, by cost, and one that comes later gets no
--       share for the time before. Works when Redis is out of memory: the first write is a removal.
local active, stored, wait_list, turns, costs, watch, stats = unpack(KEYS)
local list_name, check_in_ms = unpack(ARGV, 1, 2)

expect_type('hash', active, stored, turns, costs)
expect_type('zset', wait_list, watch)
local now = now_ms()
local virtual_time = tonumber(redis.call('ZRANGE', wait_list, 0, 0, 'WITHSCORES')[2] or 0)
local reply, last = {}, {}
local tokens, entries, places, deadlines, turns_written, costs_written = {}, {}, {}, {}, {}, {}

local function add(list, first, second)
  list[#list + 1] = first
  list[#list + 1] = second
end

local as_tokens = {}
for i = 3, #ARGV, 8 do as_tokens[#as_tokens + 1] = ARGV[i] end
local held = redis.call('HMGET', active, unpack(as_tokens))
for i = 3, #ARGV, 8 do
  local token, serial, header, deadline_ms, cost, fairness_key, position, dies_when_spent = unpack(ARGV, i, i + 7)
  local entry = held[(i + 5) / 8]
  reply[#reply + 1] = entry and 1 or 0
  if entry then
    local _, raw = split_entry(entry)
    if position == '' then
      last[fairness_key] = last[fairness_key] or tonumber(redis.call('HGET', turns, fairness_key) or 0)
      local start = math.max(virtual_time, last[fairness_key])
      position, last[fairness_key] = string.format('%.17g', start), start + cost
    end
    tokens[#tokens + 1] = token
    add(entries, serial, header .. '\n' .. raw)
    add(places, position, serial)
    if deadline_ms ~= '' then add(deadlines, deadline_ms, serial) end
    if dies_when_spent == '1' then
      add(costs_written, serial, cost .. ' spent')
    elseif tonumber(cost) ~= 1 then
      add(costs_written, serial, cost)
    end
  end
end
if #tokens == 0 then return reply end

for key, ends in pairs(last) do add(turns_written, key, string.format('%.17g', ends)) end
redis.call('HDEL', active, unpack(tokens))
redis.call('HSET', stored, unpack(entries))
redis.call('ZADD', wait_list, unpack(places))
if #turns_written > 0 then redis.call('HSET', turns, unpack(turns_written)) end
if #costs_written > 0 then redis.call('HSET', costs, unpack(costs_written)) end
if #deadlines > 0 then redis.call('ZADD', watch, unpack(deadlines)) end
redis.call('ZADD', watch, 'NX', now + check_in_ms, list_name)
count(stats, 'parked', #tokens)
return reply
