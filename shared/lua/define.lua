-- define.lua: say by hand what a limit is, before all that configuration and tasks say; or no more.
-- KEYS  1 the limit   2 its flows   3 their lines
-- ARGV  1 the definition (see lib/limit), '' to go back to what was said elsewhere   2 time to live in ms of what only tasks define
-- Returns 1, or 0 when there was nothing to take back.
-- Guarantees: in force for whoever asks from now on; the bucket stays as full as it is, and what was booked under
--       another rate counts no more. A full Redis takes a taking back.
redis.call('DEL', KEYS[2], KEYS[3])
if ARGV[1] == '' then
  local was = redis.call('HDEL', KEYS[1], 'set')
  if was == 1 and redis.call('HEXISTS', KEYS[1], 'config') == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return was
end
redis.call('HSET', KEYS[1], 'set', ARGV[1])
redis.call('PERSIST', KEYS[1])
return 1
