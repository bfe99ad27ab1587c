-- lead.lua: asks memos what tasks should do: take an answer, wait for the task that leads, or lead.
-- KEYS  for each request its memo
-- ARGV  for each request: mode: 'lead'; 'recheck', for a task that may lead already or was just parked as a follower; or 'check_leader',
--       on behalf of all followers; serial: the task's; token: of this delivery; queue: the task's; fingerprint: the call's, '' if any
--       will do; max_age_ms: the age that an answer must be below; lease_ms: how long to lead; once: '1' if the call is about to be sent
--       and may not be sent twice; keep_ms: for how long the answer will be kept
-- Returns for each request {'answer', the memo}; {'lead'}; {'follow'}; {'mismatch'}: the memo is of another call;
--       {'unknown'}: the leader is gone and may have sent a call that may not be sent again; for 'recheck' and 'check_leader', where the
--       task could lead but does not: {'free'}; or {'error', why}: this memo cannot be asked.
-- Guarantees: the requests are answered in turn, and an error of one stops no other. One task leads at a time, until its lease ends or it
--       settles. The same task may ask any number of times, and its latest delivery leads. The queue of a follower that checks is
--       recorded, so that the leader finds it. Returning an answer writes nothing. Works when Redis is out of memory.
local now = now_ms()

local function ask(n)
  local key = KEYS[n]
  local mode, serial, token, queue, fingerprint, max_age_ms, lease_ms, once, keep_ms = unpack(ARGV, 9 * n - 8, 9 * n)

  local answer_info, queues, answer, has_answer = NO_ANSWER, '', '', false
  local memo = redis.call('GET', key)
  if memo then
    local expires_at, stored_at, stored_fingerprint = read_answer(memo)
    has_answer = now < expires_at
    local is_young = has_answer and now - stored_at < tonumber(max_age_ms)
    local is_other_call = fingerprint ~= '' and stored_fingerprint ~= '' and stored_fingerprint ~= fingerprint
    if has_answer and is_other_call then return {'mismatch'} end
    if is_young and mode ~= 'check_leader' then return {'answer', memo} end

    local leader, leader_token, leads_until, leads_once, answer_at
    answer_info, stored_fingerprint, leader, leader_token, leads_until, leads_once, queues, answer_at = read_memo(memo)
    local lease_is_over = leads_until <= now
    if leader ~= '-' and leader ~= serial and (leads_once == '1' or not lease_is_over) then
      if is_other_call then return {'mismatch'} end
      if lease_is_over then return {'unknown'} end
      if mode ~= 'lead' and not string.find(' ' .. queues, ' ' .. queue .. ' ', 1, true) then
        local lead = lead_of(leader, leader_token, leads_until, leads_once)
        write_memo(key, nil, answer_info, stored_fingerprint, lead, queues .. queue .. ' ', string.sub(memo, answer_at))
      end
      return {'follow'}
    end
    if is_young then return {'answer', memo} end
    if mode == 'recheck' and leader == serial then
      local lead = lead_of(serial, token, leads_until, leads_once)
      write_memo(key, nil, answer_info, stored_fingerprint, lead, queues, string.sub(memo, answer_at))
      return {'lead'}
    end
    if has_answer then answer = string.sub(memo, answer_at) else answer_info = NO_ANSWER end
  end

  if mode ~= 'lead' then return {'free'} end
  local ttl_ms = lease_ms + spare_ms(keep_ms, once)
  if has_answer and redis.call('PTTL', key) >= ttl_ms then ttl_ms = nil end
  write_memo(key, ttl_ms, answer_info, fingerprint, lead_of(serial, token, now + lease_ms, once), queues, answer)
  return {'lead'}
end

return each_apart(ask)
