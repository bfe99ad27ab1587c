-- settle.lua: ends the leads of memos: stores the leader's answer, or lets another task lead.
-- KEYS  for each request, its memo
-- ARGV  for each request: serial: the leader's; token: of its delivery, '' if no worker holds it; answer: '' if none is to be stored; ttl_ms: of
--       the answer; is_good: '1' for a success, '0' for a failure
-- Returns for each request {'settled', queue with followers, ...}; {'kept', the answer stored already, its task's serial, queue, ...};
--       {'lost'}: another delivery or another task leads; or {'failed'}: sent alone, it tells why.
-- Guarantees: fenced by the token; an answer that was stored under a lost lead stays. Sent twice, the second call returns 'kept' if there
--       was an answer to store. Requests are served in their order, and one that fails stops no other. Works when Redis is out of memory:
--       the first write is a removal.
local now = now_ms()

local function settle(memo, serial, token, answer, ttl_ms, is_good)
  local leader, leader_token, stored_answer, expires_at, stored_by, follower_queues =
    unpack(redis.call('HMGET', memo, 'leader', 'leader_token', 'answer', 'expires_at', 'stored_by', 'follower_queues'))
  local leads = leader == serial and (token == '' or leader_token == token)
  local reply = {'settled'}
  if not leads then
    if not stored_answer or tonumber(expires_at) <= now then return {'lost'} end
    reply = {'kept', stored_answer, stored_by}
  end
  for queue in string.gmatch(follower_queues or '', '%S+') do reply[#reply + 1] = queue end
  if not leads then return reply end

  redis.call('HDEL', memo, 'leader', 'leader_token', 'leads_until', 'leads_once')
  if answer ~= '' then
    redis.call('HSET', memo, 'answer', answer, 'is_good', is_good, 'stored_at', now, 'expires_at', now + ttl_ms,
      'stored_by', serial)
    redis.call('PEXPIRE', memo, ttl_ms)
  elseif not stored_answer and #reply == 1 then
    redis.call('DEL', memo)
  end
  return reply
end

local replies, at = {}, 1
for i, memo in ipairs(KEYS) do
  local serial, token, answer, ttl_ms, is_good = unpack(ARGV, at, at + 4)
  replies[i] = attempt(#KEYS, settle, memo, serial, token, answer, ttl_ms, is_good)
  at = at + 5
end
return replies
