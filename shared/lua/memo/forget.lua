-- forget.lua: drops the answer that a memo stores, so that the next task makes the call.
-- KEYS  memo
-- ARGV  what: 'any', or 'failure': then a good answer stays
-- Returns 1, or 0 if there was no such answer.
-- Guarantees: a task that leads goes on, and its followers wait for it. Works when Redis is out of memory.
local memo = unpack(KEYS)
local what = unpack(ARGV)

local answer, is_good, leader = unpack(redis.call('HMGET', memo, 'answer', 'is_good', 'leader'))
if not answer or (what == 'failure' and is_good == '1') then return 0 end
if is_led_by(leader) then
  redis.call('HDEL', memo, 'answer', 'is_good', 'stored_at', 'expires_at', 'stored_by')
else
  redis.call('DEL', memo)
end
return 1
