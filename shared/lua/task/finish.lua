-- finish.lua: completes a batch of tasks: removes each from its holder, stores result and reply, pushes its follow-ups, counts it.
-- KEYS  held: the hash that holds the tasks by token, a worker's or the parked ones; stats, replies, waiters, waiting, stored, scheduled; then for each
--       task its result key, followed by its reply list if its reply_mode is 'push', or its upload if it is 'uploaded', and by its stream if it
--       has a last_entry
-- ARGV  for each group of tasks that end alike: task_count, ttl_ms of result and reply, reply_mode and reply_list (see lib/store_result),
--       last_entry of the stream (see lib/stream; '' for none), follow_up_count, and that many follow-ups (see lib/follow_up); then for each
--       of its tasks token and result
-- Returns the numbers of the tasks that were no longer held, from 1: nothing of them was written, and their uploads are gone. An error with the
--       code NOUPLOAD, before anything was written: an upload is gone already.
-- Guarantees: each task is fenced by its own token, so a lost one does not stop the others; sent twice, it changes nothing more. The tasks
--       of a batch are removed last, so that nothing that fails before loses one. Counters, subscriptions and streams of another type stop nothing,
--       and lists only a batch that pushes there. Works when Redis is out of memory.
local held, stats, replies, waiters, waiting, stored, scheduled = unpack(KEYS, 1, 7)

local groups, tokens, token_count, pushes, replies_later, uploads, at = {}, {}, 0, false, false, false, 1
while at <= #ARGV do
  local task_count, ttl_ms, reply_mode, reply_list, last_entry, follow_up_count = unpack(ARGV, at, at + 5)
  local first_follow_up, first = at + 6, at + 6 + follow_up_count
  at = first + 2 * task_count
  groups[#groups + 1] = {ttl_ms = ttl_ms, reply = {mode = reply_mode, list = reply_list}, last_entry = last_entry,
    first_follow_up = first_follow_up, first = first, last = at - 2}
  for n = first, at - 2, 2 do
    token_count = token_count + 1
    tokens[token_count] = ARGV[n]
  end
  pushes = pushes or first_follow_up < first
  replies_later = replies_later or reply_mode == 'later'
  if reply_mode == 'uploaded' then
    uploads = true
    if redis.call('EXISTS', reply_list) == 0 then return redis.error_reply('NOUPLOAD a result has to be uploaded again') end
  end
end
if pushes then
  expect_type('list', waiting)
  expect_room_for_deliveries(stored, scheduled, ARGV)
end
if replies_later then expect_type('hash', replies) end
local has_waiters = length_if('hash', waiters) > 0

-- Of a batch, whose tasks are small, one command reads which are held, and one removes them in the end. So is the task of an upload, which
-- a user may not be allowed to move.
local is_held, removes_last = {}, token_count > 1 or uploads
if token_count == 1 and uploads then
  is_held[tokens[1]] = redis.call('HEXISTS', held, tokens[1]) == 1
elseif token_count == 1 then
  is_held[tokens[1]] = redis.call('HDEL', held, tokens[1]) == 1
elseif token_count > 1 then
  local entries = redis.call('HMGET', held, unpack(tokens))
  for n = 1, token_count do is_held[tokens[n]] = entries[n] and true end
  if next(is_held) then allow_hash_when_out_of_memory(held) end
end

local lost, finished, finished_count, number, key = {}, {}, 0, 0, 8
for _, group in ipairs(groups) do
  local ttl_ms, reply, last_entry = group.ttl_ms, group.reply, group.last_entry
  for n = group.first, group.last, 2 do
    local token, result = ARGV[n], ARGV[n + 1]
    local result_key, stream
    key, result_key, reply.key, stream = ending_keys(key, reply.mode, last_entry)
    number = number + 1
    if is_held[token] then
      is_held[token] = nil -- It may be named twice.
      store_result(result_key, ttl_ms, result, reply, replies, token)
      if stream then end_stream(stream, last_entry, ttl_ms) end
      if has_waiters then notify_waiters(waiters, result_key, result) end
      for follow_up = group.first_follow_up, group.first - 1 do
        push_follow_up(waiting, stored, scheduled, token, ARGV[follow_up])
      end
      finished_count = finished_count + 1
      finished[finished_count] = token
    else
      lost[#lost + 1] = number
      if reply.mode == 'uploaded' then redis.call('DEL', reply.key) end
    end
  end
end
if finished_count > 0 then
  if removes_last then redis.call('HDEL', held, unpack(finished)) end
  count(stats, 'complete', finished_count)
end
return lost
