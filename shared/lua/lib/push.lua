-- lib/push.lua: put a result on a reply list. Prepended to what delivers replies.
-- A reply list that is no list is the producer's mistake and must not hold up the answer: pcall, and go on.
-- Its time to live is only ever made longer, as answers share it; a list without one is not ours to end.
-- A script that pushes many to one list looks at its time to live once: time stands still in a script.
-- Returns whether the result is on the list.
local lives = {}
local function push(list, result, ttl_ms)
  local length = redis.pcall('LPUSH', list, result)
  if type(length) ~= 'number' then return false end
  local ttl = tonumber(ttl_ms)
  if (lives[list] or -1) >= ttl then return true end
  local left = length > 1 and redis.call('PTTL', list) or 0
  if left >= 0 and left < ttl then redis.call('PEXPIRE', list, ttl_ms) end
  lives[list] = left < 0 and math.huge or math.max(left, ttl)
  return true
end
