-- lib/reply_list.lua: pushes a result to a reply list.
-- A key that is not a list is the producer's mistake and must not hold up the result, hence the pcall. Results share the list, so its
-- time to live is only ever extended; a list without one existed before and is not Redial's to expire. The remaining time is
-- read once per script and list, because time stands still while a script runs.
local remaining_ms = {}

-- Returns whether the result is on the list.
local function push_reply(list, result, ttl_ms)
  local length = redis.pcall('LPUSH', list, result)
  if type(length) ~= 'number' then return false end
  local ttl = tonumber(ttl_ms)
  if (remaining_ms[list] or -1) >= ttl then return true end
  local left = length > 1 and redis.call('PTTL', list) or 0
  if left >= 0 and left < ttl then redis.call('PEXPIRE', list, ttl_ms) end
  remaining_ms[list] = left < 0 and math.huge or math.max(left, ttl)
  return true
end
