-- reschedule.lua: gives a claimed task back, to be claimed again by any worker, at a later time or at once.
-- KEYS  active: the tasks this worker holds; scheduled, stored, watch, stats
-- ARGV  token; serial; wait_ms: from now; not_before_ms: a time before which it is not due, 0 for none; deadline_ms: the task's
--       deadline, '' for none; header: the entry's new header; reason: also the counter to raise: 'retried' (an attempt failed),
--       'deferred' (no attempt was made) or 'released' (its worker drains)
-- Returns the due time in ms (at most 2^53, beyond which a score is not exact), or 0 if the lease was lost: then nothing was
--       written.
-- Guarantees: fenced by the token; the task waits in Redis and occupies no worker; its bytes stay as they are. Its deadline is watched
--       from the same moment on. Works when Redis is out of memory: the first write is a removal.
local active, scheduled, stored, watch, stats = unpack(KEYS)
local token, serial, wait_ms, not_before_ms, deadline_ms, header, reason = unpack(ARGV)

local entry = redis.call('HGET', active, token)
if not entry then return 0 end
expect_type('zset', scheduled, watch)
expect_type('hash', stored)
local _, raw = split_entry(entry)
local due = math.min(math.max(now_ms() + wait_ms, tonumber(not_before_ms)), 2 ^ 53)
redis.call('HDEL', active, token)
redis.call('HSET', stored, serial, header .. '\n' .. raw)
redis.call('ZADD', scheduled, due, serial)
if deadline_ms ~= '' then redis.call('ZADD', watch, deadline_ms, serial) end
count(stats, reason, 1)
return due
