-- followers.lua: read the next tasks of a line, in the order in which they came.
-- KEYS  1 the line   2 following   3 watch
-- ARGV  1 the line's name, '<kind> <name>'   2 most tasks (<= 100)   3 most bytes: the task that reaches it is the last
-- Returns {tasks left, serial, entry, serial, entry, ...}.
-- Guarantees: takes none of them: who answers one is fenced by its serial in `following`. Those that are gone are
--       forgotten here, and with the last one the line is watched no more. A full Redis takes it.
local bytes, reply, gone, unwatch = tonumber(ARGV[3]), {0}, {}, {}
redis.call('ZCARD', KEYS[3]) -- Fails on a key of another type before anything is written: Redis does not roll back.
for _, serial in ipairs(redis.call('ZRANGE', KEYS[1], 0, ARGV[2] - 1)) do
  if bytes <= 0 then break end
  local entry = redis.call('HGET', KEYS[2], serial)
  if entry then
    reply[#reply + 1] = serial
    reply[#reply + 1] = entry
    bytes = bytes - #entry
  else
    gone[#gone + 1] = serial
    unwatch[#unwatch + 1] = ARGV[1] .. ' ' .. serial
  end
end
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
  redis.call('ZREM', KEYS[3], unpack(unwatch))
end
reply[1] = redis.call('ZCARD', KEYS[1])
if reply[1] == 0 then redis.call('ZREM', KEYS[3], ARGV[1]) end
return reply
