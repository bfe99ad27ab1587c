-- lib/push.lua: put a result on a reply list. Prepended to what delivers replies.
-- A reply list that is no list is the producer's mistake and must not hold up the answer: pcall, and go on.
-- Its time to live is only ever made longer, as answers share it; a list without one is not ours to end.
-- Returns whether the result is on the list.
local function push(list, result, ttl_ms)
  local length = redis.pcall('LPUSH', list, result)
  if type(length) ~= 'number' then return false end
  local left = length > 1 and redis.call('PTTL', list) or 0
  if left >= 0 and left < tonumber(ttl_ms) then redis.call('PEXPIRE', list, ttl_ms) end
  return true
end
