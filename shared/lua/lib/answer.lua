-- lib/answer.lua: leave an answer where its producer looks for it. Prepended to finish.lua and bury.lua.
-- The durable result comes first, then the wake-up, so that a waiter who checks and then waits never misses it.
-- reply.mode: 'none'; 'push' (the list is KEYS-declared: push now); 'later' (a list in a slot of another Cluster
-- node: kept in the replies hash until a worker has delivered it).
-- A reply list that is no list is the producer's mistake and must not hold up the answer: pcall, and go on.
local function answer(result_key, ttl_ms, result, reply, replies_key, token)
  redis.call('SET', result_key, result, 'PX', ttl_ms)
  if reply.mode == 'push' then
    local pushed = redis.pcall('LPUSH', reply.key, result)
    if type(pushed) == 'number' then redis.call('PEXPIRE', reply.key, ttl_ms) end
  elseif reply.mode == 'later' then
    redis.call('HSET', replies_key, token, ttl_ms .. ' ' .. reply.name .. '\n' .. result)
  end
end
