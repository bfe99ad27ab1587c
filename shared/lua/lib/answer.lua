-- lib/answer.lua: leave an answer where its producer looks for it. Prepended, behind lib/push, to finish.lua and bury.lua.
-- The durable result comes first, then the wake-up, so that a waiter who checks and then waits never misses it.
-- reply.mode: 'none'; 'push' (the list is KEYS-declared: push now); 'later' (a list in a slot of another Cluster
-- node: kept in the replies hash as "<ttl in ms> <result>\n<list>" until a worker has delivered it).
local function answer(result_key, ttl_ms, result, reply, replies_key, token)
  redis.call('SET', result_key, result, 'PX', ttl_ms)
  if reply.mode == 'push' then
    push(reply.key, result, ttl_ms)
  elseif reply.mode == 'later' then
    redis.call('HSET', replies_key, token, ttl_ms .. ' ' .. result .. '\n' .. reply.name)
  end
end
