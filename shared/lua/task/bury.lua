-- bury.lua: ends a task without success, wherever it is: a dead letter, a result that says the same, and its follow-ups.
-- KEYS  place: where the task is; dead, stats, replies, waiters, waiting, stored, scheduled; then result_key, unless the task's id could not be read; then
--       reply_key: the reply list, if reply_mode is 'push'; and last the stream, if there is a last_entry
-- ARGV  place_type: 'hash', 'zset' or 'list'; member: the field of the hash (for a worker's task: its token), or the member itself;
--       letter_header: the dead letter's header, one line of JSON; token: the task's token or serial; then, with a result_key:
--       ttl_ms, result, reply_mode and reply_list (see lib/store_result), last_entry of its stream (see lib/stream; '' for none), and the
--       follow-ups (see lib/follow_up)
-- Returns 1, or 0 if the task is no longer there, for example because the worker lost its lease: then nothing was written.
-- Guarantees: fenced by the place itself. The dead letter is the header, a newline and the producer's exact bytes. Works when
--       Redis is out of memory: the first write is a removal. Counters, subscriptions and streams of another type stop nothing, and a key that
--       this ending does not need is not looked at.
local place, dead, stats, replies, waiters, waiting, stored, scheduled, result_key, reply_key = unpack(KEYS, 1, 10)
local place_type, member, letter_header, token = unpack(ARGV, 1, 4)

local ttl_ms, result, reply_mode, reply_list, last_entry = unpack(ARGV, 5, 9)
expect_type('zset', dead)
if reply_mode == 'later' then expect_type('hash', replies) end
if #ARGV > 9 then
  expect_type('list', waiting)
  expect_room_for_deliveries(stored, scheduled, {unpack(ARGV, 10)})
end

-- Removes the task from its place. Returns the producer's bytes, or nil.
local function remove()
  if place_type == 'list' then
    -- From the right, where tasks are taken and where this one was looked for.
    return redis.call('LREM', place, -1, member) == 1 and member or nil
  end
  local entry = member
  if place_type == 'hash' then
    entry = redis.call('HGET', place, member)
    if not entry then return nil end
    redis.call('HDEL', place, member)
  elseif redis.call('ZREM', place, member) == 0 then
    return nil
  end
  local _, raw = split_entry(entry)
  return raw
end

local raw = remove()
if not raw then return 0 end
redis.call('ZADD', dead, now_ms(), letter_header .. '\n' .. raw)
count(stats, 'dead', 1)
if result_key then
  store_result(result_key, ttl_ms, result, {mode = reply_mode, list = reply_list, key = reply_key}, replies, token)
  if last_entry ~= '' then end_stream(KEYS[#KEYS], last_entry, ttl_ms) end
  if length_if('hash', waiters) > 0 then notify_waiters(waiters, result_key, result) end
end
for follow_up = 10, #ARGV do push_follow_up(waiting, stored, scheduled, token, ARGV[follow_up]) end
return 1
