-- release_slots.lua: releases the concurrency slots of calls that have ended.
-- KEYS  limit_key; slots: the calls in flight; waiting: the queues in which calls wait, each with when it last announced one
-- ARGV  the tokens
-- Returns {how many of them held a slot, 1 if calls wait for the limit}.
-- Guarantees: sent twice, it releases nothing more. Works when Redis is out of memory: it only removes.
local limit_key, slots, waiting = unpack(KEYS)

local released = redis.call('ZREM', slots, unpack(ARGV))
return {released, redis.call('EXISTS', limit_key) == 1 and redis.call('EXISTS', waiting) or 0}
