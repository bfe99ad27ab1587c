-- claim.lua: take due and waiting tasks off a queue for one worker, and renew that worker's lease.
-- KEYS  1 waiting list   2 woken list   3 scheduled   4 this worker's active hash   5 workers
-- ARGV  1 worker id   2 request id, fresh for each claim   3 most tasks to take (<= 100)
--       4 lease in ms   5 most bytes to take (one task is always taken, however large)
-- Returns {now_ms, due time in ms of the next scheduled task or -1, entry 1, entry 2, ...}.
--       The token of entry i is "<request id>:<i>".
-- Guarantees: what is due in `scheduled` goes before what was woken for, and that before what waits. A task is in
--       `active` before it has left the other place for anyone to see. Sent twice with one request id (a reply was
--       lost), it answers with the same tasks and takes nothing more.
local room, bytes = tonumber(ARGV[3]), tonumber(ARGV[5])
local now = now_ms()
local reply = {now, -1}

-- A write that Redis allows when it is out of memory and that changes nothing: the writes below then pass as well,
-- so a full Redis can still be drained.
redis.call('PERSIST', KEYS[4])
redis.call('ZADD', KEYS[5], now + ARGV[4], ARGV[1])

local again = redis.call('HGET', KEYS[4], ARGV[2] .. ':1')
while again do
  reply[#reply + 1] = again
  again = redis.call('HGET', KEYS[4], ARGV[2] .. ':' .. #reply - 1)
end

if #reply == 2 then
  local fields = {}
  local function take(entry)
    reply[#reply + 1] = entry
    fields[#fields + 1] = ARGV[2] .. ':' .. #reply - 2
    fields[#fields + 1] = entry
    room, bytes = room - 1, bytes - #entry
  end

  local due = 0
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, room)) do
    if due > 0 and bytes <= 0 then break end
    take(entry)
    due = due + 1
  end

  for _, list in ipairs({KEYS[2], KEYS[1]}) do
    local raws = room > 0 and bytes > 0 and redis.call('RPOP', list, room) or {}
    for i, raw in ipairs(raws) do
      if i > 1 and bytes <= 0 then
        for back = #raws, i, -1 do redis.call('RPUSH', list, raws[back]) end
        break
      end
      take(ARGV[2] .. ':' .. #reply - 1 .. ' ' .. now .. ' 0 0 -\n' .. raw)
    end
  end

  if due > 0 then redis.call('ZREMRANGEBYRANK', KEYS[3], 0, due - 1) end
  if #fields > 0 then redis.call('HSET', KEYS[4], unpack(fields)) end
end

local next_due = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
if next_due[2] then reply[2] = tonumber(next_due[2]) end
return reply
