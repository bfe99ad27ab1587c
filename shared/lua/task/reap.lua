-- reap.lua: takes tasks back from a worker, so that any other worker can claim them at once.
-- KEYS  workers; active: that worker's tasks; scheduled, stored, stats
-- ARGV  worker: its id; reason: also the counter to raise; renewal: the worker's lease as it was seen to end, else ''; max_tasks
--       (<= 100); max_bytes: the task that reaches it is the last one; then, for 'stray', the tokens. The reason is
--       'reaped': the lease ended; each task counts a crash;
--       'released': the worker shuts down; nothing is counted, and the worker is forgotten;
--       'stray': no live worker knows these tokens, because Redis lost a write in a crash; nothing is counted.
-- Returns {tasks taken back, tasks the worker still holds}; for 'reaped', {0, 0} if the lease has been renewed after all.
-- Guarantees: a task that was taken back is lost to its worker, because its token is gone. A worker is forgotten only when it holds
--       nothing. From its second crash on a task runs alone and is marked as started (mark_started.lua), so that a third crash
--       counts only for the task that was running and not for those beside it. It reads no more of a worker's tasks than it takes
--       back. Works when Redis is out of memory: the first write is a removal.
local workers, active, scheduled, stored, stats = unpack(KEYS)
local worker, reason, renewal, max_tasks, max_bytes = unpack(ARGV, 1, 5)

local room, bytes_left = tonumber(max_tasks), tonumber(max_bytes)
local now = now_ms()
if reason == 'reaped' and redis.call('ZSCORE', workers, worker) ~= renewal then return {0, 0} end
expect_type('zset', workers, scheduled)
expect_type('hash', active, stored)

-- The entry with one more crash, if this crash counts.
local function with_crash(entry)
  local header, raw = split_entry(entry)
  local serial, first_seen, crashes, started, state = string.match(header, '^(%S+) (%S+) (%d+) (%d) (.*)$')
  if not serial or (tonumber(crashes) >= 2 and started == '0') then return entry end
  return table.concat({serial, first_seen, crashes + 1, started, state}, ' ') .. '\n' .. raw
end

local tokens, first = ARGV, 6
if reason ~= 'stray' then tokens, first = redis.call('HRANDFIELD', active, room), 1 end
local due, moved, fields = {}, {}, {}
for i = first, #tokens do
  if #fields == room or bytes_left <= 0 then break end
  local entry = redis.call('HGET', active, tokens[i])
  if entry then
    if reason == 'reaped' then entry = with_crash(entry) end
    fields[#fields + 1] = tokens[i]
    -- What is not an entry goes by its token, which is as unique as a serial.
    local serial = string.match(entry, '^(%S+) %S+ %d+ %d [^\n]*\n') or tokens[i]
    due[#due + 1] = now
    due[#due + 1] = serial
    moved[#moved + 1] = serial
    moved[#moved + 1] = entry
    bytes_left = bytes_left - #entry
  end
end

if #fields > 0 then
  redis.call('HDEL', active, unpack(fields))
  redis.call('HSET', stored, unpack(moved))
  redis.call('ZADD', scheduled, unpack(due))
  count(stats, reason, #fields)
end
local left = redis.call('HLEN', active)
if left == 0 and reason ~= 'stray' then redis.call('ZREM', workers, worker) end
return {#fields, left}
