-- subscribe.lua: subscribes a waiter to results, or ends its subscriptions, and returns the results that exist already.
-- KEYS  waiters; then the result keys (<= 100)
-- ARGV  waiter_list: the list that gets the results; subscribe_ms: for how long, 0 to unsubscribe; grace_ms: how much longer all
--       subscriptions are kept than the last of them lasts
-- Returns for each result key the result, or nil if there is none yet: then the waiter's list gets it as soon as it is stored (see
--       lib/notify).
-- Guarantees: reading and subscribing are one step, so no result is missed in between. Sent twice it subscribes once, until the later
--       time. Each call also checks a few random subscriptions and drops expired ones, so that waiters that died leave nothing
--       behind. Works when Redis is out of memory.
local waiters = unpack(KEYS, 1, 1)
local waiter_list, subscribe_ms, grace_ms = unpack(ARGV)

local now, duration = now_ms(), tonumber(subscribe_ms)
expect_type('hash', waiters)

-- The subscriptions to a result without the expired ones and without those of the list `except`.
local function current(subscriptions, except)
  local kept = ''
  for until_ms, list in string.gmatch(subscriptions or '', '(%d+) ([^\n]+)\n') do
    if tonumber(until_ms) > now and list ~= except then kept = kept .. until_ms .. ' ' .. list .. '\n' end
  end
  return kept
end

local function store(result_key, subscriptions)
  if subscriptions == '' then
    redis.call('HDEL', waiters, result_key)
  else
    redis.call('HSET', waiters, result_key, subscriptions)
  end
end

local reply, missing = {}, {}
for i = 2, #KEYS do
  local result = redis.call('GET', KEYS[i])
  reply[i - 1] = result
  if not result then missing[#missing + 1] = KEYS[i] end
end
local remaining_ms = redis.call('PTTL', waiters)
allow_when_out_of_memory(waiters)
for _, result_key in ipairs(missing) do
  local subscriptions = current(redis.call('HGET', waiters, result_key), waiter_list)
  if duration > 0 then subscriptions = subscriptions .. now + duration .. ' ' .. waiter_list .. '\n' end
  store(result_key, subscriptions)
end
for _, result_key in ipairs(redis.call('HRANDFIELD', waiters, 3) or {}) do
  local subscriptions = redis.call('HGET', waiters, result_key)
  local kept = current(subscriptions)
  if kept ~= subscriptions then store(result_key, kept) end
end
redis.call('PEXPIRE', waiters, math.max(remaining_ms, duration + grace_ms))
return reply
