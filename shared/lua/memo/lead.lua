-- lead.lua: asks memos what tasks should do: take an answer, wait for the task that leads, or lead.
-- KEYS  for each request its memo
-- ARGV  for each request: mode: 'lead'; 'recheck', for a task that may lead already or was just parked as a follower; or 'check_leader',
--       on behalf of all followers; serial: the task's; token: of this delivery; queue: the task's; fingerprint: the call's, '' if any
--       will do; max_age_ms: the age that an answer must be below; lease_ms: how long to lead; once: '1' if the call is about to be sent
--       and may not be sent twice; keep_ms: for how long the answer will be kept
-- Returns for each request {'answer', the answer, its task's serial}; {'lead'}; {'follow'}; {'mismatch'}: the memo is of another call;
--       {'unknown'}: the leader is gone and may have sent a call that may not be sent again; for 'recheck' and 'check_leader', where the
--       task could lead but does not: {'free'}; or {'error', why}: this memo cannot be asked.
-- Guarantees: the requests are answered in turn, and an error of one stops no other. One task leads at a time, until its lease ends or it
--       settles. The same task may ask any number of times, and its latest delivery leads. The queue of a follower that checks is
--       recorded, so that the leader finds it. Returning an answer writes nothing. Works when Redis is out of memory.
local now = now_ms()

local function ask(n)
  local memo = KEYS[n]
  local mode, serial, token, queue, fingerprint, max_age_ms, lease_ms, once, keep_ms = unpack(ARGV, 9 * n - 8, 9 * n)

  local leader, answer, stored_at, expires_at, stored_by, stored_fingerprint, leads_until, leads_once, follower_queues
  -- While no task leads, a call without a fingerprint needs no more.
  if fingerprint == '' then
    leader, answer, stored_at, expires_at, stored_by =
      unpack(redis.call('HMGET', memo, 'leader', 'answer', 'stored_at', 'expires_at', 'stored_by'))
  end
  if fingerprint ~= '' or is_led_by(leader) then
    leader, answer, stored_at, expires_at, stored_by, stored_fingerprint, leads_until, leads_once, follower_queues =
      unpack(redis.call('HMGET', memo, 'leader', 'answer', 'stored_at', 'expires_at', 'stored_by', 'fingerprint', 'leads_until',
        'leads_once', 'follower_queues'))
  end

  local has_answer = answer and now < tonumber(expires_at or 0)
  local lease_is_over = tonumber(leads_until or 0) <= now
  local other_leads = is_led_by(leader) and leader ~= serial and (not lease_is_over or leads_once == '1')
  if (has_answer or other_leads) and fingerprint ~= '' and stored_fingerprint and stored_fingerprint ~= fingerprint then
    return {'mismatch'}
  end
  local is_young = has_answer and now - tonumber(stored_at or 0) < tonumber(max_age_ms)
  if is_young and not (mode == 'check_leader' and other_leads) then return {'answer', answer, stored_by} end
  if other_leads and lease_is_over then return {'unknown'} end

  local may_lead = mode == 'lead' or (mode == 'recheck' and leader == serial)
  if not other_leads and not may_lead then return {'free'} end
  if other_leads then
    local queues, name = follower_queues or ' ', queue .. ' '
    if mode ~= 'lead' and not string.find(queues, ' ' .. name, 1, true) then
      set_fields(memo, 'follower_queues', queues .. name)
    end
    return {'follow'}
  end
  if mode == 'recheck' then
    set_fields(memo, 'leader_token', token)
    return {'lead'}
  end
  local fields = {'leader', serial, 'leader_token', token, 'leads_until', time_after(now, lease_ms)}
  -- These two are absent from most memos, and then stay so.
  if once == '1' or leads_once then append(fields, 'leads_once', once) end
  if fingerprint ~= '' or stored_fingerprint then append(fields, 'fingerprint', fingerprint) end
  set_fields(memo, unpack(fields))
  local ttl_ms = lease_ms + spare_ms(keep_ms, once)
  if not has_answer or redis.call('PTTL', memo) < ttl_ms then redis.call('PEXPIRE', memo, string.format('%d', ttl_ms)) end
  return {'lead'}
end

return each_apart(ask)
