-- fire_schedule.lua: pushes the task of a schedule that is due, and sets when it fires next.
-- KEYS  schedules, firings, waiting, stats
-- ARGV  name, header; due_at_ms: the time that is due; next_at_ms: the one after it, '' for none; task_start: how the pushed task
--       begins: "{" and the fields that this firing adds, with a comma
-- Returns 1, or 0 if this time was fired already, is not due by Redis TIME, or the schedule has changed: then nothing was written.
-- Guarantees: each time of a schedule pushes one task, however many workers try and whichever of them die. The producer's bytes after
--       their first "{" are pushed as they are. When Redis is out of memory it writes nothing, because the push comes first: the
--       schedule stays due.
local schedules, firings, waiting, stats = unpack(KEYS)
local name, header, due_at_ms, next_at_ms, task_start = unpack(ARGV)

local due_at = tonumber(redis.call('ZSCORE', firings, name) or -1)
if due_at ~= tonumber(due_at_ms) or due_at > now_ms() then return 0 end
local schedule = redis.call('HGET', schedules, name)
if not schedule then return 0 end
local stored_header, task = split_entry(schedule)
if stored_header ~= header then return 0 end
expect_type('list', waiting)
redis.call('LPUSH', waiting, task_start .. string.sub(task, 2))
if next_at_ms == '' then
  redis.call('ZREM', firings, name)
else
  redis.call('ZADD', firings, next_at_ms, name)
end
count(stats, 'fired', 1)
return 1
