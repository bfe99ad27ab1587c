-- release_slots.lua: releases the concurrency slots of calls that have ended.
-- KEYS  limit_key; slots: the calls in flight
-- ARGV  for each call: token; call_us: how long it took, 0 if that should not count
-- Returns how many of them held a slot.
-- Guarantees: sent twice, it releases nothing more. Durations are smoothed, to estimate when the next slot is free. Works when Redis
--       is out of memory: the first write is a removal.
local limit_key, slots = unpack(KEYS)

local last_now, avg_call_us = unpack(redis.call('HMGET', limit_key, 'last_now', 'avg_call_us'))
local average, released = tonumber(avg_call_us or 100000), 0
for i = 1, #ARGV, 2 do
  local token, call_us = unpack(ARGV, i, i + 1)
  released = released + redis.call('ZREM', slots, token)
  if call_us ~= '0' then average = average * 0.8 + call_us * 0.2 end
end
if last_now and released > 0 then redis.call('HSET', limit_key, 'avg_call_us', to_text(average)) end
return released
