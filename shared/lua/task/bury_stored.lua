-- bury_stored.lua: ends scheduled and parked tasks without success: each becomes a dead letter, a result that says the same, and its
-- follow-ups.
-- KEYS  stored, scheduled, watch, dead, stats, replies, waiters, waiting; then for each task with a result its key, followed by its reply
--       list if its reply_mode is 'push', and by its stream if it has a last_entry
-- ARGV  for each task: serial, letter_header: the dead letter's header, one line of JSON; ttl_ms of result and reply, result, reply_mode
--       and reply_list (see lib/store_result; 'no_result' if it has none), last_entry of its stream (see lib/stream; '' for none),
--       follow_up_count, and that many follow-ups (see lib/follow_up)
-- Returns for each task 1, or 0 if it is no longer stored: then nothing of it was written.
-- Guarantees: each task is fenced by its serial, so that one that is gone does not stop the others; sent twice, it changes nothing
--       more. Counters, subscriptions and streams of another type stop nothing. A dead letter is the header, a newline and the producer's exact bytes. Works when Redis is out of memory: the first
--       write is a removal.
local stored, scheduled, watch, dead, stats, replies, waiters, waiting = unpack(KEYS, 1, 8)

expect_type('hash', stored)
expect_type('zset', scheduled, watch, dead)
expect_type('list', waiting)
local has_waiters = length_if('hash', waiters) > 0
if length_if('hash', replies) < 0 then
  for _, argument in ipairs(ARGV) do
    if argument == 'later' then expect_type('hash', replies) end
  end
end
local now = now_ms()

local reply, ended, key, at = {}, {}, 9, 1
while at <= #ARGV do
  local serial, letter_header, ttl_ms, result, reply_mode, reply_list, last_entry, follow_up_count = unpack(ARGV, at, at + 7)
  local has_result = reply_mode ~= 'no_result'
  local result_key, reply_key, stream
  if has_result then key, result_key, reply_key, stream = ending_keys(key, reply_mode, last_entry) end
  local entry = redis.call('HGET', stored, serial)
  if entry then
    local _, raw = split_entry(entry)
    redis.call('HDEL', stored, serial)
    redis.call('ZADD', dead, now, letter_header .. '\n' .. raw)
    if has_result then
      store_result(result_key, ttl_ms, result, {mode = reply_mode, list = reply_list, key = reply_key}, replies, serial)
      if stream then end_stream(stream, last_entry, ttl_ms) end
      if has_waiters then notify_waiters(waiters, result_key, result) end
    end
    for follow_up = at + 8, at + 7 + follow_up_count do push_follow_up(waiting, stored, scheduled, serial, ARGV[follow_up]) end
    ended[#ended + 1] = serial
  end
  reply[#reply + 1] = entry and 1 or 0
  at = at + 8 + follow_up_count
end
if #ended > 0 then
  redis.call('ZREM', scheduled, unpack(ended))
  redis.call('ZREM', watch, unpack(ended))
  count(stats, 'dead', #ended)
end
return reply
