-- forget.lua: drops the answer that a memo stores, so that the next task makes the call.
-- KEYS  key
-- ARGV  what: 'any', or 'failure': then a good answer stays
-- Returns 1, or 0 if there was no such answer.
-- Guarantees: a task that leads goes on, and its followers wait for it. Works when Redis is out of memory.
local key = unpack(KEYS)
local what = unpack(ARGV)

local memo = redis.call('GET', key)
if not memo then return 0 end
local is_memo, answer_info, fingerprint, leader, token, leads_until, once, queues = pcall(read_memo, memo)
if not is_memo then return redis.error_reply(answer_info) end
if answer_info == NO_ANSWER or (what == 'failure' and string.find(answer_info, '^%d+ %d+ 1 ')) then return 0 end
if leader == '-' then
  redis.call('DEL', key)
else
  write_memo(key, nil, NO_ANSWER, fingerprint, lead_of(leader, token, leads_until, once), queues, '')
end
return 1
