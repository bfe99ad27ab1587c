-- settle.lua: ends leads of memos: stores the answer of each leader, or lets another task lead.
-- KEYS  for each lead its memo
-- ARGV  for each lead: serial: the leader's; token: of its delivery, '' if no worker holds it; answer: '' if none is to be stored; ttl_ms:
--       of the answer; is_good: '1' for a success, '0' for a failure
-- Returns for each lead {'settled', queue with followers, ...}; {'kept', the answer stored already, its task's serial, queue, ...};
--       {'lost'}: another delivery or another task leads; or {'error', why}: this memo cannot be settled.
-- Guarantees: the leads are settled in turn, and an error of one stops no other. Fenced by the token; an answer that was stored under a
--       lost lead stays. Sent twice, the second call returns 'kept' if there was an answer to store. Works when Redis is out of memory.
local now = now_ms()

local function settle(n)
  local memo = KEYS[n]
  local serial, token, answer, ttl_ms, is_good = unpack(ARGV, 5 * n - 4, 5 * n)

  local leader, leader_token, leads_until, leads_once, expires_at, stored_by, follower_queues = unpack(redis.call('HMGET', memo,
    'leader', 'leader_token', 'leads_until', 'leads_once', 'expires_at', 'stored_by', 'follower_queues'))
  local leads = leader == serial and (token == '' or leader_token == token)
  local reply = {'settled'}
  if not leads then
    local stored_answer = expires_at and now < tonumber(expires_at) and redis.call('HGET', memo, 'answer')
    if not stored_answer then return {'lost'} end
    reply = {'kept', stored_answer, stored_by}
  end
  if follower_queues then
    for queue in string.gmatch(follower_queues, '%S+') do append(reply, queue) end
  end
  if not leads then return reply end

  if answer == '' then
    if expires_at or #reply > 1 then
      redis.call('HDEL', memo, 'leader', 'leader_token', 'leads_until', 'leads_once')
    else
      redis.call('DEL', memo)
    end
    return reply
  end
  -- Emptied and not removed, which would be another command. Without a leader, leads_until says nothing.
  local fields = {'leader', '', 'leader_token', '', 'answer', answer, 'is_good', is_good, 'stored_at', time_after(now, 0), 'expires_at',
    time_after(now, ttl_ms), 'stored_by', serial}
  if leads_once then append(fields, 'leads_once', 0) end
  set_fields(memo, unpack(fields))
  -- The time to live that came with the lead usually suits the answer.
  local excess_ms = tonumber(leads_until or 0) + spare_ms(ttl_ms, leads_once) - (now + ttl_ms)
  if expires_at or excess_ms < 0 or excess_ms > ttl_ms / 8 then redis.call('PEXPIRE', memo, ttl_ms) end
  return reply
end

return each_apart(settle)
