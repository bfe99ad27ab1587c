-- grow_partitions.lua: spreads a queue over more partitions, or says over how many it is spread.
-- KEYS  partitions: over how many partitions each queue is spread
-- ARGV  queue; count: over how many it is to be spread
-- Returns how many partitions the queue has then: `count`, or more if it had more.
-- Guarantees: the number of a queue never falls, so that no partition with tasks in it is forgotten. Sent twice, it changes nothing more.
local partitions = unpack(KEYS)
local queue, count = unpack(ARGV)

local current = tonumber(redis.call('HGET', partitions, queue) or '0')
if current >= tonumber(count) then return current end
redis.call('HSET', partitions, queue, count)
return tonumber(count)
