-- lib/notify.lua: sends a result to the waiters that subscribed to it; '': the one under its key. Needs lib/reply_list.
-- The `waiters` hash has, by result key, lines of "<until_ms> <the waiter's list>". Each list gets the result's key, a newline and the
-- result; it expires by itself if its waiter died. These lists are in the queue's slot. No script can declare them as keys, because
-- nobody knows beforehand who waits.
local NOTIFICATION_TTL_MS = 60000

local function notify_waiters(waiters, result_key, result)
  local subscriptions = redis.call('HGET', waiters, result_key)
  if not subscriptions then return end
  redis.call('HDEL', waiters, result_key)
  if result == '' then result = redis.call('GET', result_key) end
  for list in string.gmatch(subscriptions, '%d+ ([^\n]+)\n') do
    push_reply(list, result_key .. '\n' .. result, NOTIFICATION_TTL_MS)
  end
end
