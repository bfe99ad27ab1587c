-- begin.lua: put down that a call is about to go out, for tasks for which "was it sent?" must survive a kill.
-- KEYS  1 this worker's active hash
-- ARGV  1 token   2 the entry's new header
-- Returns 1, or 0 when the lease was lost: then the call must not be made.
-- Guarantees: fenced by the token; the producer's bytes stay as they are; a full Redis takes it.
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then return 0 end
local _, raw = split(entry)
write_though_full(KEYS[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '\n' .. raw)
return 1
