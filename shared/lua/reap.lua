-- reap.lua: take tasks back from a worker and let any other claim them at once.
-- KEYS  1 workers   2 that worker's active hash   3 scheduled   4 stats
-- ARGV  1 worker id   2 why, also the counter to raise   3 most tasks to take back (<= 100)
--       4 most bytes: the task that reaches it is the last   5... tokens, for 'stray'
--       why: 'reaped', the lease ran out: each task counts a crash;
--            'released', the worker stops by its own will: nothing is counted, and it is forgotten;
--            'stray', these tokens are known to no one in a live worker (Redis lost a write in a crash): not counted.
-- Returns {tasks taken back, tasks it still holds}; with 'reaped', {0, 0} when the lease is in force after all.
-- Guarantees: a task once taken back is lost to its worker: the token is gone. A worker is forgotten only when it holds
--       nothing. From the second crash on a task runs alone and begins with begin.lua, so that only the task that was
--       running counts a third one, not those beside it. HDEL comes before what takes memory: a full Redis takes it.
local why, most, bytes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()
if why == 'reaped' then
  local deadline = redis.call('ZSCORE', KEYS[1], ARGV[1])
  if deadline and tonumber(deadline) > now then return {0, 0} end
end

-- These fail on a key of another type before anything is written: Redis does not roll back.
local tokens = redis.call('HKEYS', KEYS[2])
redis.call('ZCARD', KEYS[1])
redis.call('ZCARD', KEYS[3])
redis.call('HLEN', KEYS[4])

local first = 1
if why == 'stray' then tokens, first = ARGV, 5 end
local moved, fields = {}, {}
for i = first, #tokens do
  if #fields == most or bytes <= 0 then break end
  local entry = redis.call('HGET', KEYS[2], tokens[i])
  if entry then
    local header, raw = split(entry)
    local serial, first_seen, crashes, begun, state = string.match(header, '^(%S+) (%S+) (%d+) (%d) (.*)$')
    if serial and why == 'reaped' and (tonumber(crashes) < 2 or begun == '1') then
      entry = table.concat({serial, first_seen, crashes + 1, begun, state}, ' ') .. '\n' .. raw
    end
    fields[#fields + 1] = tokens[i]
    moved[#moved + 1] = now
    moved[#moved + 1] = entry
    bytes = bytes - #entry
  end
end

if #fields > 0 then
  redis.call('HDEL', KEYS[2], unpack(fields))
  redis.call('ZADD', KEYS[3], unpack(moved))
  redis.call('HINCRBY', KEYS[4], why, #fields)
end
local left = redis.call('HLEN', KEYS[2])
if left == 0 and why ~= 'stray' then redis.call('ZREM', KEYS[1], ARGV[1]) end
return {#fields, left}
