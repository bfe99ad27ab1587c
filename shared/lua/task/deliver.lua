-- deliver.lua: delivers a reply to a list in another Cluster slot than its queue.
-- KEYS  reply_list
-- ARGV  ttl_ms, result
-- Returns 1, or 0 if the key is not a list: then it was left as it is, and will never take the reply.
-- Guarantees: delivered at least once, because no script can write to two slots; sent twice, the reply is on the list twice. Works
--       when Redis is out of memory: LTRIM to the whole list changes nothing and is always allowed as the first write.
local reply_list = unpack(KEYS)
local ttl_ms, result = unpack(ARGV)

local kind = redis.call('TYPE', reply_list).ok
if kind ~= 'list' and kind ~= 'none' then return 0 end
redis.call('LTRIM', reply_list, 0, -1)
return push_reply(reply_list, result, ttl_ms) and 1 or 0
