-- forget.lua: drop the answer that a memo keeps, so that the next task makes the call.
-- KEYS  1 the memo
-- ARGV  1 'any', or 'failure': a good answer stays
-- Returns 1, or 0 when there was none to drop.
-- Guarantees: a task that leads goes on, and its followers wait for it; a full Redis takes it.
local memo = redis.call('HMGET', KEYS[1], 'answer', 'ok', 'lead')
if not memo[1] or (ARGV[1] == 'failure' and memo[2] == '1') then return 0 end
if memo[3] then
  redis.call('HDEL', KEYS[1], 'answer', 'ok', 'at', 'fresh', 'by')
else
  redis.call('DEL', KEYS[1])
end
return 1
