-- claim.lua: take due and waiting tasks off a queue for one worker, and renew that worker's lease.
-- KEYS  1 waiting list   2 woken list   3 scheduled   4 this worker's active hash   5 workers
--       6 the number of this worker's last claim   7 paused
-- ARGV  1 worker id   2 request id "<worker id>:<number>", the number higher with each claim   3 most tasks (<= 100)
--       4 lease in ms   5 most bytes: the task that reaches it is the last, and one is always taken
-- Returns {now_ms, due time in ms of the next scheduled task, -1 for none, -2 where the queue is paused, entry 1, entry 2, ...}.
--       The token of entry i is "<request id>:<i>".
-- Guarantees: what is due in `scheduled` goes before what was woken for, and that before what waits. A task is in
--       `active` before it has left the other place for anyone to see. Sent twice with one request id (a reply was
--       lost), it answers with the same tasks, as far as the worker still has them, and takes nothing more, however
--       late it comes: no token is given out twice. Of a paused queue it takes nothing. A full Redis takes it.
local room, bytes = tonumber(ARGV[3]), tonumber(ARGV[5])
local now = now_ms()
local reply, fields = {now, -1}, {}

-- These fail on a key of another type before anything is written: Redis does not roll back.
local waiting, woken = redis.call('LLEN', KEYS[1]), redis.call('LLEN', KEYS[2])
local scheduled = redis.call('ZCARD', KEYS[3])
redis.call('HLEN', KEYS[4])

local paused = redis.call('EXISTS', KEYS[7]) == 1
write_though_full(KEYS[4])
redis.call('ZADD', KEYS[5], now + ARGV[4], ARGV[1])
if seen_before(KEYS[6], tonumber(string.match(ARGV[2], '%d+$'))) then
  room = 0
  local again = redis.call('HGET', KEYS[4], ARGV[2] .. ':1')
  while again do
    reply[#reply + 1] = again
    again = redis.call('HGET', KEYS[4], ARGV[2] .. ':' .. #reply - 1)
  end
end

if paused then
  reply[2] = -2
  return reply
end

local size = bytes -- of the last task taken
local function take(entry)
  reply[#reply + 1] = entry
  fields[#fields + 1] = ARGV[2] .. ':' .. #reply - 2
  fields[#fields + 1] = entry
  room, bytes, size = room - 1, bytes - #entry, #entry
end
local function part() -- How many to look at in one go: 10 save time, but large ones would be copied in vain.
  return math.min(10, room, math.max(1, math.floor(bytes / size)))
end

local due, found = 0, scheduled > 0
while found and room > 0 and bytes > 0 do
  found = false
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', due, part())) do
    if due > 0 and bytes <= 0 then break end
    take(entry)
    due, found = due + 1, true
  end
end

for _, list in ipairs({{KEYS[2], woken}, {KEYS[1], waiting}}) do
  local key, left = list[1], list[2]
  while left > 0 and room > 0 and bytes > 0 do
    local raws = redis.call('RPOP', key, part())
    for i, raw in ipairs(raws) do
      if i > 1 and bytes <= 0 then
        for back = #raws, i, -1 do redis.call('RPUSH', key, raws[back]) end
        break
      end
      take(ARGV[2] .. ':' .. #reply - 1 .. ' ' .. now .. ' 0 0 -\n' .. raw)
    end
    left = left - #raws
  end
end

if due > 0 then redis.call('ZREMRANGEBYRANK', KEYS[3], 0, due - 1) end
if #fields > 0 then redis.call('HSET', KEYS[4], unpack(fields)) end

if scheduled > due then reply[2] = tonumber(redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]) end
return reply
