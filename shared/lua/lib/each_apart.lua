-- lib/each_apart.lua: calls of scripts that have nothing to do with each other and only share a round trip.

-- Calls a function with the number of each key. Returns what it returns for each, or {'error', why}.
local function each_apart(act)
  local replies = {}
  for n = 1, #KEYS do
    local is_done, reply = pcall(act, n)
    if not is_done then
      local message = tostring(reply)
      -- From version 7 on, an error of Redis begins with its code, which only a table keeps.
      local has_code = string.find(message, '^%u+ ')
      -- What is wrong with a key itself. Everything else, such as that this Redis became a replica, concerns the whole call.
      if not string.find(message, 'WRONGTYPE ', 1, true) then error(has_code and {err = message} or message, 0) end
      reply = {'error', has_code and message or 'ERR ' .. message}
    end
    replies[n] = reply
  end
  return replies
end
