-- due_checks.lua: lists the wait lists that are due for a check, and the stored tasks whose deadline has passed.
-- KEYS  watch, stored
-- ARGV  recheck_in_ms: when each is due again, from now; max_checks (<= 100); max_bytes: the task that reaches it is the last one
-- Returns {ms until the next check is due, 0 if it is already, -1 for none; then for each that is due: '<reason> <name>' of a wait
--       list and '', or the serial of a task and its entry}.
-- Guarantees: each check is postponed, not dropped: one worker makes it at a time, and another one later should that worker die.
--       Serials of tasks that are no longer stored are removed. Works when Redis is out of memory.
local watch, stored = unpack(KEYS)
local recheck_in_ms, max_checks, max_bytes = unpack(ARGV)

local now, bytes_left = now_ms(), tonumber(max_bytes)
local reply, postponed, gone = {-1}, {}, {}
expect_type('hash', stored)
for _, name in ipairs(redis.call('ZRANGEBYSCORE', watch, '-inf', now, 'LIMIT', 0, max_checks)) do
  if bytes_left <= 0 then break end
  local is_list = string.find(name, ' ', 1, true)
  local entry = is_list and '' or redis.call('HGET', stored, name)
  if entry then
    bytes_left = bytes_left - #entry
    reply[#reply + 1] = name
    reply[#reply + 1] = entry
    postponed[#postponed + 1] = now + recheck_in_ms
    postponed[#postponed + 1] = name
  else
    gone[#gone + 1] = name
  end
end
allow_when_out_of_memory(watch)
if #gone > 0 then redis.call('ZREM', watch, unpack(gone)) end
if #postponed > 0 then redis.call('ZADD', watch, unpack(postponed)) end
local next_check = redis.call('ZRANGE', watch, 0, 0, 'WITHSCORES')[2]
if next_check then reply[1] = math.min(math.max(0, math.ceil(next_check - now)), 2 ^ 53) end
return reply
