-- lead.lua: asks memos what tasks should do: take the answer, wait for the task that leads, or lead.
-- KEYS  for each request, its memo
-- ARGV  for each request: mode: 'lead'; 'recheck', for a task that may lead already or was just parked as a follower; or 'check_leader', on
--       behalf of all followers; serial: the task's; token: of this delivery; queue: the task's; fingerprint: the call's, '' if any will do;
--       max_age_ms: the age that an answer must be below; lease_ms: how long to lead; once: '1' if the call is
--       about to be sent and may not be sent twice
-- Returns for each request {'answer', the answer, its task's serial}; {'lead'}; {'follow'}; {'mismatch'}: the memo is of another call;
--       {'unknown'}: the leader is gone and may have sent a call that may not be sent again; for 'recheck' and 'check_leader', where the
--       task could lead but does not: {'free'}; or {'failed'}: sent alone, it tells why.
-- Guarantees: one task leads at a time, until its lease ends or it settles. The same task may ask any number of times, and its latest
--       delivery leads. The queue of a follower that checks is recorded, so that the leader finds it. Returning an answer writes
--       nothing. Requests are served in their order, and one that fails stops no other. Works when Redis is out of memory.
local now = now_ms()

-- Only where Redis refuses it for lack of memory, a removal comes first: it would cost a command each time.
local function set_fields(memo, ...)
  local reply = redis.pcall('HSET', memo, ...)
  if type(reply) ~= 'table' or not reply.err then return end
  if string.find(reply.err, 'OOM', 1, true) then allow_hash_when_out_of_memory(memo) end
  redis.call('HSET', memo, ...)
end

local function lead(memo, mode, serial, token, queue, fingerprint, max_age_ms, lease_ms, once)
  local stored_fingerprint, leader, leads_until, leads_once, answer, stored_at, expires_at, stored_by, follower_queues =
    unpack(redis.call('HMGET', memo, 'fingerprint', 'leader', 'leads_until', 'leads_once', 'answer', 'stored_at', 'expires_at',
      'stored_by', 'follower_queues'))

  local has_answer = answer and now < tonumber(expires_at or 0)
  local lease_is_over = tonumber(leads_until or 0) <= now
  local other_leads = leader and leader ~= serial and (not lease_is_over or leads_once == '1')
  if (has_answer or other_leads) and fingerprint ~= '' and stored_fingerprint and stored_fingerprint ~= fingerprint then
    return {'mismatch'}
  end
  local is_young = has_answer and now - tonumber(stored_at or 0) < tonumber(max_age_ms)
  if is_young and not (mode == 'check_leader' and other_leads) then return {'answer', answer, stored_by} end
  if other_leads and lease_is_over then return {'unknown'} end

  local may_lead = mode == 'lead' or (mode == 'recheck' and leader == serial)
  if not other_leads and not may_lead then return {'free'} end
  if other_leads and mode == 'lead' then return {'follow'} end
  if other_leads then
    local queues, name = follower_queues or ' ', queue .. ' '
    if not string.find(queues, ' ' .. name, 1, true) then set_fields(memo, 'follower_queues', queues .. name) end
    return {'follow'}
  end
  if mode == 'recheck' then
    set_fields(memo, 'leader_token', token)
    return {'lead'}
  end
  set_fields(memo, 'leader', serial, 'leader_token', token, 'leads_until', now + lease_ms, 'leads_once', once,
    'fingerprint', fingerprint)
  -- A day longer than the lease: that a call may have been sent must not be forgotten with its leader.
  local ttl_ms = lease_ms + 86400000
  if not has_answer or redis.call('PTTL', memo) < ttl_ms then redis.call('PEXPIRE', memo, ttl_ms) end
  return {'lead'}
end

local replies, at = {}, 1
for i, memo in ipairs(KEYS) do
  local mode, serial, token, queue, fingerprint, max_age_ms, lease_ms, once = unpack(ARGV, at, at + 7)
  replies[i] = attempt(#KEYS, lead, memo, mode, serial, token, queue, fingerprint, max_age_ms, lease_ms, once)
  at = at + 8
end
return replies
