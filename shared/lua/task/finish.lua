-- finish.lua: completes a batch of tasks: removes each from its holder, stores result and reply, pushes its follow-ups, counts it.
-- KEYS  held: the hash that holds the tasks by token, a worker's or the parked ones; stats, replies, waiters, waiting, stored, scheduled; then for each
--       task its result key, followed by its reply list if its reply_mode is 'push', or its upload if it is 'uploaded', and by its stream if it
--       has a last_entry
-- ARGV  for each task: token, ttl_ms of result and reply, result, reply_mode and reply_list (see lib/store_result), last_entry
--       of its stream (see lib/stream; '' for none), follow_up_count, and that many follow-ups (see lib/follow_up)
-- Returns for each task 1, or 0 if it was no longer held: then nothing of it was written, and its upload is gone. An error with the code
--       NOUPLOAD, before anything was written: an upload is gone already.
-- Guarantees: each task is fenced by its own token, so a lost one does not stop the others; sent twice, it changes nothing more. The tasks
--       of a batch are removed last, so that nothing that fails before loses one. Counters, subscriptions and streams of another type stop nothing,
--       and lists only a batch that pushes there. Works when Redis is out of memory.
local held, stats, replies, waiters, waiting, stored, scheduled = unpack(KEYS, 1, 7)

local tokens, token_count, pushes, replies_later, uploads, at, arg_count = {}, 0, false, false, false, 1, #ARGV
while at <= arg_count do
  token_count = token_count + 1
  tokens[token_count] = ARGV[at]
  local reply_mode = ARGV[at + 3]
  replies_later = replies_later or reply_mode == 'later'
  if reply_mode == 'uploaded' then
    uploads = true
    if redis.call('EXISTS', ARGV[at + 4]) == 0 then return redis.error_reply('NOUPLOAD a result has to be uploaded again') end
  end
  local follow_up_count = tonumber(ARGV[at + 6])
  pushes = pushes or follow_up_count > 0
  at = at + 7 + follow_up_count
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
  for i, entry in ipairs(redis.call('HMGET', held, unpack(tokens))) do is_held[tokens[i]] = entry and true end
  if next(is_held) then allow_hash_when_out_of_memory(held) end
end

local reply, key, finished = {}, 8, {}
at = 1
while at <= arg_count do
  local token, ttl_ms, result, reply_mode, reply_list, last_entry, follow_up_count = unpack(ARGV, at, at + 6)
  follow_up_count = tonumber(follow_up_count)
  local result_key, reply_key, stream = KEYS[key], nil, nil
  key = key + 1
  if reply_mode == 'push' or reply_mode == 'uploaded' then
    reply_key = KEYS[key]
    key = key + 1
  end
  if last_entry ~= '' then
    stream = KEYS[key]
    key = key + 1
  end
  local was_held = is_held[token]
  if was_held then
    is_held[token] = nil -- It may be named twice.
    store_result(result_key, ttl_ms, result, {mode = reply_mode, list = reply_list, key = reply_key}, replies, token)
    if stream then end_stream(stream, last_entry, ttl_ms) end
    if has_waiters then notify_waiters(waiters, result_key, result) end
    for follow_up = at + 7, at + 6 + follow_up_count do push_follow_up(waiting, stored, scheduled, token, ARGV[follow_up]) end
    finished[#finished + 1] = token
  elseif reply_mode == 'uploaded' then
    redis.call('DEL', reply_key)
  end
  reply[#reply + 1] = was_held and 1 or 0
  at = at + 7 + follow_up_count
end
if #finished > 0 then
  if removes_last then redis.call('HDEL', held, unpack(finished)) end
  count(stats, 'complete', #finished)
end
return reply
