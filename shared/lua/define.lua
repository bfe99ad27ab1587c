-- define.lua: say by hand what a limit is, before all that configuration and tasks say; or no more.
-- KEYS  1 the limit   2 its flows   3 their lines
-- ARGV  1 the definition (see lib/limit), '' to go back to what was said elsewhere   2 time to live in ms of what only tasks define
-- Returns 1, or 0 when there was nothing to take back.
-- Guarantees: in force for whoever asks from now on; what is missing in the bucket stays missing, and what was
--       booked under another rate counts no more. A full Redis takes a taking back.
local held = redis.call('HMGET', KEYS[1], 'set', 'config', 'inline', 'full', 'seen', 'skew')
local was, will = in_force(held[1], held[2], held[3]), in_force(ARGV[1], held[2], held[3])
redis.call('DEL', KEYS[2], KEYS[3])
if held[4] and will then
  redis.call('HSET', KEYS[1], 'full', number(under(will, was, tonumber(held[4]), (limit_now(held[5], held[6])))))
end
if ARGV[1] == '' then
  local gone = redis.call('HDEL', KEYS[1], 'set')
  if gone == 1 and redis.call('HEXISTS', KEYS[1], 'config') == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return gone
end
redis.call('HSET', KEYS[1], 'set', ARGV[1])
redis.call('PERSIST', KEYS[1])
return 1
