-- mark_started.lua: records that a call is about to be sent, for tasks where "was it sent?" must survive a killed worker.
-- KEYS  active: the tasks this worker holds
-- ARGV  token; header: the entry's new header
-- Returns 1, or 0 if the lease was lost: then the call must not be made.
-- Guarantees: fenced by the token; the producer's bytes stay as they are. Works when Redis is out of memory.
local active = unpack(KEYS)
local token, header = unpack(ARGV)

local entry = redis.call('HGET', active, token)
if not entry then return 0 end
local _, raw = split_entry(entry)
allow_when_out_of_memory(active)
redis.call('HSET', active, token, header .. '\n' .. raw)
return 1
