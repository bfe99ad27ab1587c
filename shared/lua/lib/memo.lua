-- lib/memo.lua: what the scripts of memos share. A memo is a string: a header line, a newline, and the stored answer. The header has four
-- parts, separated by semicolons:
--   answer_info: when the answer expires, when it was stored, '1' for a success or '0' for a failure, and the serial of the task that got
--     it; NO_ANSWER while the memo stores no answer
--   the fingerprint of the call; empty if any call matches
--   the lead: the leader's serial, the token of its delivery, when its lease ends, and '1' if the call may have been sent and may not be
--     sent twice; NO_LEAD while no task leads
--   the queues that have followers, each followed by a space
local NO_ANSWER, NO_LEAD = '0 0 0 -', '- - 0 0'
local DAY_MS, TEN_MINUTES_MS = 86400000, 600000

-- Whole numbers as text. Redis itself would print one with 17 digits, which takes it as long as a small command.
local texts = {}
local function to_text(number)
  texts[number] = texts[number] or string.format('%d', number)
  return texts[number]
end

-- Raises a text, as a table that a script raises is no error to Redis before version 7.
local function require_memo(word)
  if not word then error('WRONGTYPE the value of this key is not a memo', 0) end
end

-- Of a memo: when its answer expires, when that was stored, and the fingerprint.
local function read_answer(memo)
  local expires_at, stored_at, fingerprint = string.match(memo, '^(%d+) (%d+) [01] [^; ]+;([^;\n]*);')
  require_memo(expires_at)
  return tonumber(expires_at), tonumber(stored_at), fingerprint
end

-- The parts of a memo, the lead in its words, and where its answer begins.
local function read_memo(memo)
  local answer_info, fingerprint, leader, token, leads_until, once, queues, answer_at =
    string.match(memo, '^([^;\n]+);([^;\n]*);(%S+) (%S+) (%d+) ([01]);([^\n]*)\n()')
  require_memo(leader)
  return answer_info, fingerprint, leader, token, tonumber(leads_until), once, queues, answer_at
end

-- A lead as memos store it.
local function lead_of(leader, token, leads_until, once)
  return leader .. ' ' .. token .. ' ' .. to_text(leads_until) .. ' ' .. once
end

-- Stores a memo of these parts. Its time to live becomes ttl_ms, or stays if that is nil.
local function write_memo(key, ttl_ms, answer_info, fingerprint, lead, queues, answer)
  local memo = answer_info .. ';' .. fingerprint .. ';' .. lead .. ';' .. queues .. '\n' .. answer
  if ttl_ms then set_string(key, memo, 'PX', to_text(ttl_ms)) else set_string(key, memo, 'KEEPTTL') end
end

-- How much longer than its lead a memo is kept. If a call may have been sent that may not be sent twice, that must not be forgotten with
-- its leader. Otherwise as long as the answer will be kept, so that storing it need not set the time to live again; but long enough
-- for all followers to find out that their leader is gone, and no longer than a day.
local function spare_ms(keep_ms, once)
  if once == '1' then return DAY_MS end
  return math.min(math.max(tonumber(keep_ms), TEN_MINUTES_MS), DAY_MS)
end
