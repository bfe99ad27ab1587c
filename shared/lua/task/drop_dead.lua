-- drop_dead.lua: deletes a dead letter for good.
-- KEYS  dead, stats
-- ARGV  letter: all bytes of the dead letter
-- Returns 1, or 0 if the dead letter is gone.
-- Guarantees: deletes only this one; its result stays until its time to live ends. Works when Redis is out of memory.
local dead, stats = unpack(KEYS)
local letter = unpack(ARGV)

if redis.call('ZREM', dead, letter) == 0 then return 0 end
count(stats, 'dropped', 1)
return 1
