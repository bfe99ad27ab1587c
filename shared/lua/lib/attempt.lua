-- lib/attempt.lua: what a script does for each of several items, so that one that fails stops no other.

-- Calls a function with the arguments of an item. If it is the only item, the script fails as the function does; of several, one that
-- fails has the reply {'failed'}.
local function attempt(item_count, work, ...)
  if item_count == 1 then return work(...) end
  local is_done, reply = pcall(work, ...)
  return is_done and reply or {'failed'}
end
