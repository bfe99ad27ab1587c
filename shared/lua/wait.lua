-- wait.lua: ask to be told of results, and see which are there already.
-- KEYS  1 waiters   2... result keys (<= 100)
-- ARGV  1 the waiter's list   2 for how long it asks in ms; 0: it asks no more   3 how much longer its list is kept in ms
-- Returns for each result key the result, or nil where there is none: then, the moment there is one, the waiter's list
--       gets it, as lib/wake says.
-- Guarantees: look and request are one step, so no result comes in between; sent twice it asks once, and for the later
--       time. Each call also looks at a few requests at random and drops what is over, so that waiters that died leave
--       nothing behind. A full Redis takes it.
local now, list, span = now_ms(), ARGV[1], tonumber(ARGV[2])
redis.call('HLEN', KEYS[1]) -- Fails on a key of another type before anything is written: Redis does not roll back.

-- Those who ask for a result, but for the ones whose time is over and for `but`.
local function others(asked, but)
  local kept = ''
  for till, name in string.gmatch(asked or '', '(%d+) ([^\n]+)\n') do
    if tonumber(till) > now and name ~= but then kept = kept .. till .. ' ' .. name .. '\n' end
  end
  return kept
end

local function put(key, asked)
  if asked == '' then redis.call('HDEL', KEYS[1], key) else redis.call('HSET', KEYS[1], key, asked) end
end

local reply, missing = {}, {}
for i = 2, #KEYS do
  local result = redis.call('GET', KEYS[i])
  reply[i - 1] = result
  if not result then missing[#missing + 1] = KEYS[i] end
end
local left = redis.call('PTTL', KEYS[1])
write_though_full(KEYS[1])
for _, key in ipairs(missing) do
  local asked = others(redis.call('HGET', KEYS[1], key), list)
  if span > 0 then asked = asked .. now + span .. ' ' .. list .. '\n' end
  put(key, asked)
end
for _, key in ipairs(redis.call('HRANDFIELD', KEYS[1], 3) or {}) do
  local asked = redis.call('HGET', KEYS[1], key)
  local kept = others(asked)
  if kept ~= asked then put(key, kept) end
end
redis.call('PEXPIRE', KEYS[1], math.max(left, span + ARGV[3]))
return reply
