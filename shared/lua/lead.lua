-- lead.lua: ask a memo what a task is to do: take its answer, follow the task that leads, or lead.
-- KEYS  1 the memo
-- ARGV  1 'lead'; or 'look', for a task that leads already or was just parked as a follower; or 'watch', for all followers
--       2 the task's serial   3 the token of this delivery   4 its queue   5 the call's fingerprint, '' where any will do
--       6 age in ms that an answer must be below   7 how long to lead in ms   8 '1' where the call may not go out twice
-- Returns {'answer', the answer, its task's serial}; {'lead'}; {'follow'}; {'mismatch'}, the memo is of another call;
--       {'unknown'}, the leader is gone and may have made a call that may not be made again;
--       and where it does not lead though it could ('look', 'watch'): {'free'}.
-- Guarantees: one task leads at a time, until its time is up or it settles; the same task may ask again and again, and its
--       latest delivery leads. Who looks and has to follow has its queue noted, for the leader to find. An answer costs
--       no write; the first write of all others is an HDEL: a full Redis takes it.
local mode, serial = ARGV[1], ARGV[2]
local now = now_ms()
local memo = redis.call('HMGET', KEYS[1], 'call', 'lead', 'until', 'sent', 'answer', 'at', 'fresh', 'by', 'queues')
local call, lead, till, sent, answer = memo[1], memo[2], tonumber(memo[3] or 0), memo[4] == '1', memo[5]
local at, fresh, by, queues = tonumber(memo[6] or 0), tonumber(memo[7] or 0), memo[8], memo[9] or ' '

local held = answer and now < fresh
local led = lead and lead ~= serial and (till > now or sent)
if (held or led) and ARGV[5] ~= '' and call and call ~= ARGV[5] then return {'mismatch'} end
if held and now - at < tonumber(ARGV[6]) and not (mode == 'watch' and led) then return {'answer', answer, by} end
if led and till <= now then return {'unknown'} end

local leads = mode == 'lead' or (mode == 'look' and lead == serial)
if not led and not leads then return {'free'} end
if led and mode == 'lead' then return {'follow'} end
redis.call('HDEL', KEYS[1], '-')
if led then
  local queue = ' ' .. ARGV[4] .. ' '
  if not string.find(queues, queue, 1, true) then redis.call('HSET', KEYS[1], 'queues', queues .. string.sub(queue, 2)) end
  return {'follow'}
end
if mode == 'look' then
  redis.call('HSET', KEYS[1], 'token', ARGV[3])
  return {'lead'}
end
redis.call('HSET', KEYS[1], 'lead', serial, 'token', ARGV[3], 'until', now + ARGV[7], 'sent', ARGV[8], 'call', ARGV[5])
-- A day longer than it leads: what may have been sent is not forgotten with its leader.
local keep = ARGV[7] + 86400000
if not held or redis.call('PTTL', KEYS[1]) < keep then redis.call('PEXPIRE', KEYS[1], keep) end
return {'lead'}
