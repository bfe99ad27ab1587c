-- enqueue_once.lua: pushes the next tasks of a batch, once however often it is sent.
-- KEYS  waiting; checkpoint: the last line of the batch that was pushed
-- ARGV  before: the checkpoint to continue from, 0 at the start; after: the checkpoint once these tasks are pushed; ttl_ms: of the
--       checkpoint; then the tasks, the first to be claimed first (<= 1000)
-- Returns the checkpoint as it is now: `after` if these tasks are on the queue, by this call or an earlier copy; or, as `@` and its number, the
--       partition to which the task of this checkpoint belongs instead.
-- Guarantees: tasks and checkpoint are written together or not at all, and not if the checkpoint differs from `before`. When Redis is
--       out of memory it writes nothing, because the push comes first.
local waiting, checkpoint = unpack(KEYS)
local before, after, ttl_ms = unpack(ARGV, 1, 3)

expect_type('list', waiting)
local current = redis.call('GET', checkpoint) or '0'
if current ~= before then return current end
redis.call('LPUSH', waiting, unpack(ARGV, 4))
redis.call('SET', checkpoint, after, 'PX', ttl_ms)
return after
