-- lib/store_result.lua: stores a task's result and delivers its reply. Needs lib/reply_list.
-- The durable result comes before the push, so that a program woken by its reply list finds the result in place.
-- reply.mode is 'none'; 'uploaded' when there is no reply and the result, here '', is in reply.key already; 'push' when the script declares
-- the list as a key; or 'later' for a list in another Cluster slot, which a worker delivers from `replies`, where it waits as
-- "<ttl_ms> <result>\n<list>".
local function store_result(result_key, ttl_ms, result, reply, replies, token)
  if reply.mode == 'uploaded' then
    redis.call('RENAME', reply.key, result_key)
    redis.call('PEXPIRE', result_key, ttl_ms)
    return
  end
  redis.call('SET', result_key, result, 'PX', ttl_ms)
  if reply.mode == 'push' then
    push_reply(reply.key, result, ttl_ms)
  elseif reply.mode == 'later' then
    redis.call('HSET', replies, token, ttl_ms .. ' ' .. result .. '\n' .. reply.list)
  end
end

-- The keys of what a task leaves behind, which follow each other in KEYS from `at` on: returns the number of the key behind them, then that of
-- the result, the one that comes with its reply_mode, and that of its stream if it has a last_entry.
local function ending_keys(at, reply_mode, last_entry)
  local result_key, reply_key, stream = KEYS[at], nil, nil
  at = at + 1
  if reply_mode == 'push' or reply_mode == 'uploaded' then reply_key, at = KEYS[at], at + 1 end
  if last_entry ~= '' then stream, at = KEYS[at], at + 1 end
  return at, result_key, reply_key, stream
end
