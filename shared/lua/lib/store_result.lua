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
