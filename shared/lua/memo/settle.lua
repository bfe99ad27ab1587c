-- settle.lua: ends leads of memos: stores the answer of each leader, or lets another task lead.
-- KEYS  for each lead its memo
-- ARGV  for each lead: serial: the leader's; token: of its delivery, '' if no worker holds it; answer: '' if none is to be stored; ttl_ms:
--       of the answer; is_good: '1' for a success, '0' for a failure
-- Returns for each lead {'settled', queue with followers, ...}; {'kept', the memo with the answer stored already, queue, ...};
--       {'lost'}: another delivery or another task leads; or {'error', why}: this memo cannot be settled.
-- Guarantees: the leads are settled in turn, and an error of one stops no other. Fenced by the token; an answer that was stored under a
--       lost lead stays. Sent twice, the second call returns 'kept' if there was an answer to store. Works when Redis is out of memory.
local now = now_ms()

local function settle(n)
  local key = KEYS[n]
  local serial, token, answer, ttl_ms, is_good = unpack(ARGV, 5 * n - 4, 5 * n)

  local memo = redis.call('GET', key)
  if not memo then return {'lost'} end
  local answer_info, fingerprint, leader, leader_token, leads_until, leads_once, queues, answer_at = read_memo(memo)
  local reply = {'settled'}
  local leads = leader == serial and (token == '' or leader_token == token)
  if not leads then
    if now >= read_answer(memo) then return {'lost'} end
    reply = {'kept', memo}
  end
  if queues ~= '' then
    for queue in string.gmatch(queues, '%S+') do reply[#reply + 1] = queue end
  end
  if not leads then return reply end

  local had_answer = answer_info ~= NO_ANSWER
  if answer == '' then
    if had_answer or queues ~= '' then
      write_memo(key, nil, answer_info, fingerprint, NO_LEAD, queues, string.sub(memo, answer_at))
    else
      redis.call('DEL', key)
    end
    return reply
  end
  -- The time to live that came with the lead usually suits the answer.
  local excess_ms = leads_until + spare_ms(ttl_ms, leads_once) - (now + ttl_ms)
  local keeps_ttl = not had_answer and excess_ms >= 0 and excess_ms <= ttl_ms / 8
  answer_info = to_text(now + ttl_ms) .. ' ' .. to_text(now) .. ' ' .. is_good .. ' ' .. serial
  write_memo(key, not keeps_ttl and ttl_ms or nil, answer_info, fingerprint, NO_LEAD, queues, answer)
  return reply
end

return each_apart(settle)
