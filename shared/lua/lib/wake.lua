-- lib/wake.lua: tell those who asked for a result (wait.lua) that it is there. Prepended, behind lib/push, to what writes results.
-- Under the result's key `waiters` has lines of "<until when in ms> <the waiter's list>"; each list gets the result's key,
-- a newline, the result, and goes away by itself where its waiter died. The lists are of this queue's slot; they are named
-- nowhere but here, as no one knows beforehand who waits.
local function wake(waiters, result_key, result)
  local asked = redis.call('HGET', waiters, result_key)
  if not asked then return end
  redis.call('HDEL', waiters, result_key)
  for list in string.gmatch(asked, '%d+ ([^\n]+)\n') do push(list, result_key .. '\n' .. result, 60000) end
end
