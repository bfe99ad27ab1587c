-- enqueue_once.lua: put the next tasks of a batch on the queue, once however often it is sent.
-- KEYS  1 waiting list   2 the batch's mark
-- ARGV  1 the mark before: the last line that was pushed, 0 for none   2 the mark after   3 ttl of the mark in ms
--       4... the tasks, the first to be taken first (at most 1000)
-- Returns the mark as it stands now: that of ARGV 2 when these tasks are on the queue, by this call or an earlier copy.
-- Guarantees: tasks and mark are written as one or not at all; where the mark is another than ARGV 1, nothing is. A full
--       Redis refuses it whole, as the push comes first.

-- These fail on a key of another type before anything is written: Redis does not roll back.
redis.call('LLEN', KEYS[1])
local mark = redis.call('GET', KEYS[2]) or '0'
if mark ~= ARGV[1] then return tonumber(mark) end
redis.call('LPUSH', KEYS[1], unpack(ARGV, 4))
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return tonumber(ARGV[2])
