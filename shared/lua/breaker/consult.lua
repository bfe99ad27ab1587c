-- consult.lua: reports to an upstream's breaker what became of calls, and asks it whether to make more.
-- KEYS  breaker_key
-- ARGV  min_calls: how many calls are enough to judge by; failure_ratio: the share of them (0 to 1) that must have failed;
--       probe_interval_ms; retry_ratio: retries per first call, and retries_per_s: retries per second that the retry budget allows;
--       epoch: the one in which the reported calls were admitted; good, bad: how many first calls succeeded and failed; trailing: how
--       many calls failed since the last success; any_good: '1' if any succeeded; then the requests: 'first', 'retry',
--       'reserved_retry' for a retry that was given its time before, or 'wait_list <n>' for a queue's wait list with n tasks
-- Returns {epoch, 'closed', 'open' or 'half_open', since when it has not been closed in ms, then for each request: how many are
--       admitted, ms until it should ask again, 1 if a failure should cost no attempt}. For a wait list the number is how many of its
--       first tasks may run, or 'last' for its last one; they ask for themselves then.
-- Guarantees: closed, it admits all first calls, and retries within the budget. Open, it admits one call per probe interval, the
--       first of them a second after it opened. Half open, each step admits at most twice as many as the one before. Calls admitted
--       before it opened do not count afterwards. Sent twice, calls are counted twice and admissions are wasted, but it never
--       admits more. Works when Redis is out of memory.
local breaker_key = unpack(KEYS)
local min_calls, failure_ratio, probe_interval_ms, retry_ratio, retries_per_s, epoch, good, bad, trailing, any_good =
  unpack(ARGV, 1, 10)

-- Read.
local breaker = {state = redis.call('HGET', breaker_key, 'state') or 'closed'}
for i, value in ipairs(redis.call('HMGET', breaker_key, unpack(BREAKER_FIELDS))) do
  breaker[BREAKER_FIELDS[i]] = tonumber(value or 0)
end
local config = {
  min_calls = tonumber(min_calls), failure_ratio = tonumber(failure_ratio), probe_interval_ms = tonumber(probe_interval_ms),
  retry_ratio = tonumber(retry_ratio), retries_per_s = tonumber(retries_per_s),
}
local report = {
  epoch = tonumber(epoch), good = tonumber(good), bad = tonumber(bad), trailing = tonumber(trailing), any_good = any_good == '1',
}

-- Decide.
local now, reply = now_ms(), {0, '', 0}
advance(breaker, config, now)
record(breaker, config, now, report)
advance_step(breaker, now)
for i = 11, #ARGV do
  local admit, retry_in, is_free = decide(breaker, config, now, ARGV[i])
  reply[#reply + 1] = admit
  reply[#reply + 1] = math.ceil(retry_in)
  reply[#reply + 1] = is_free
end
reply[1], reply[2], reply[3] = breaker.epoch, breaker.state, breaker.state == 'closed' and 0 or math.floor(breaker.open_since)

-- Write.
allow_hash_when_out_of_memory(breaker_key)
local fields = {'state', breaker.state}
for _, field in ipairs(BREAKER_FIELDS) do
  fields[#fields + 1] = field
  fields[#fields + 1] = string.format('%.3f', breaker[field])
end
redis.call('HSET', breaker_key, unpack(fields))
redis.call('PEXPIRE', breaker_key, 3600000)
return reply
