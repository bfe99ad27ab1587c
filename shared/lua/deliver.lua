-- deliver.lua: put a reply on its list, where that lies in another Cluster slot than the queue.
-- KEYS  1 reply list
-- ARGV  1 ttl in ms   2 the result
-- Returns 1, or 0 when the key holds something else: then it was left as it is, and will never take the reply.
-- Guarantees: delivered at least once, as two slots can't be written as one; sent twice, the reply is there twice.
--       A full Redis takes it: LTRIM to the whole list changes nothing and may always be the first write.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'list' and kind ~= 'none' then return 0 end
redis.call('LTRIM', KEYS[1], 0, -1)
return push(KEYS[1], ARGV[2], ARGV[1]) and 1 or 0
