-- settle.lua: the leader of a memo has come to its end: keep its answer, or let another lead.
-- KEYS  1 the memo
-- ARGV  1 the leader's serial   2 the token of its delivery, '' where no worker holds it   3 the answer, '' where none is to be kept
--       4 how long it is kept in ms   5 '1' for a good answer, '0' for a failure
-- Returns {'settled', queue with followers, ...}; {'kept', an answer that stands already, its task's serial, queue, ...};
--       or {'lost'}: another delivery or another task leads.
-- Guarantees: fenced by the token; an answer that was kept under a lost lead stands. Sent twice, the second time answers
--       'kept' where there was an answer to keep. HDEL comes before what takes memory: a full Redis takes it.
local now = now_ms()
local memo = redis.call('HMGET', KEYS[1], 'lead', 'token', 'answer', 'fresh', 'by', 'queues')
local reply = {'settled'}
local leads = memo[1] == ARGV[1] and (ARGV[2] == '' or memo[2] == ARGV[2])
if not leads then
  if not memo[3] or tonumber(memo[4]) <= now then return {'lost'} end
  reply = {'kept', memo[3], memo[5]}
end
for queue in string.gmatch(memo[6] or '', '%S+') do reply[#reply + 1] = queue end
if not leads then return reply end

redis.call('HDEL', KEYS[1], 'lead', 'token', 'until', 'sent')
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'answer', ARGV[3], 'ok', ARGV[5], 'at', now, 'fresh', now + ARGV[4], 'by', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
elseif not memo[3] and #reply == 1 then
  redis.call('DEL', KEYS[1])
end
return reply
