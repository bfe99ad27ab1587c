-- lib/breaker.lua: a circuit breaker with a retry budget: its states and decisions. Pure: no Redis, and `now` (ms) is an argument.
-- The circuit breaker is that of M. Nygard, "Release It!"; growing the half-open step is slow start (RFC 5681); the retry budget is
-- a token bucket that first calls fill, as in gRPC's retry throttling (gRFC A6) and Finagle.
-- config: {min_calls, failure_ratio, probe_interval_ms, retry_ratio, retries_per_s}
-- A breaker is a table with `state` ('closed', 'open', 'half_open') and these numbers:
--   epoch: how often it has opened; open_since; next_probe_at; has_probed: whether a wait list has sent a probe in this outage
--   step_ends_at, step_limit, step_admitted, step_offered: the current step while half open (open: the turn of a wait list)
--   last_refused_at, last_failed_at, failing_since: since when calls fail in a row; recovered_at: when it last became half open
--   failures_in_a_row; calls, failures: first calls, decaying; updated_at; retry_tokens; next_retry_at
local BREAKER_FIELDS = {
  'epoch', 'open_since', 'next_probe_at', 'has_probed', 'step_ends_at', 'step_limit', 'step_admitted', 'step_offered',
  'last_refused_at', 'last_failed_at', 'failing_since', 'recovered_at', 'failures_in_a_row', 'calls', 'failures', 'updated_at',
  'retry_tokens', 'next_retry_at',
}
local TIMES = {
  'open_since', 'next_probe_at', 'step_ends_at', 'last_refused_at', 'last_failed_at', 'failing_since', 'recovered_at',
  'updated_at', 'next_retry_at',
}
local DECAY_MS = 10000 -- Calls count less and less over this time.
local STEP_MS = 500 -- The length of a half-open step.
local FIRST_STEP = 10 -- Calls in the first step.
local SETTLE_MS = 1000 -- Failures in a row, or a task that was let run, are given this long to show what they mean.
local QUIET_MS = 10000 -- Half open becomes closed after this long without a refusal.
local WARY_MS = 60000 -- For this long after a recovery, failures must last SETTLE_MS to open it again.
local MAX_PROBE_FACTOR = 12 -- Probes are at most this many intervals apart.
local FREE_PROBES = 120 -- Probes cost no attempt for this many intervals.

local function max_retry_tokens(breaker, config)
  return config.retries_per_s + config.retry_ratio * breaker.calls
end

-- Probes come less often the longer the outage lasts: after a sixth of it, within bounds.
local function next_probe(breaker, config, now)
  local sixth = (now - breaker.open_since) / 6
  return now + math.min(math.max(sixth, config.probe_interval_ms), MAX_PROBE_FACTOR * config.probe_interval_ms)
end

-- After a recovery it may be that of each task the first call fails and the second succeeds: then failures in a row must have gone
-- on for a while.
local function is_down(breaker, now)
  return now - breaker.recovered_at > WARY_MS or now - breaker.failing_since >= SETTLE_MS
end

local function open(breaker, config, now)
  if breaker.state == 'closed' then breaker.open_since = now end
  breaker.state, breaker.epoch = 'open', breaker.epoch + 1
  breaker.failures_in_a_row, breaker.step_ends_at, breaker.has_probed = 0, 0, 0
  breaker.next_probe_at = now + math.min(SETTLE_MS, config.probe_interval_ms)
end

local function half_open(breaker, now)
  breaker.state = 'half_open'
  breaker.step_ends_at, breaker.step_limit, breaker.step_admitted, breaker.step_offered = now + STEP_MS, FIRST_STEP, 0, 0
  breaker.last_refused_at, breaker.recovered_at = now, now
  breaker.failures_in_a_row, breaker.calls, breaker.failures = 0, 0, 0
end

-- Lets time pass: past calls count less, and the retry budget refills. If the clock was set back, all times move with it.
local function advance(breaker, config, now)
  local step_back = breaker.updated_at - now
  if step_back > 0 then
    for _, field in ipairs(TIMES) do breaker[field] = breaker[field] - step_back end
  end
  local is_new = breaker.updated_at == 0
  local elapsed = is_new and 0 or now - breaker.updated_at
  local decay = math.exp(-elapsed / DECAY_MS)
  breaker.calls, breaker.failures = breaker.calls * decay, breaker.failures * decay
  local refilled = breaker.retry_tokens + elapsed / 1000 * config.retries_per_s
  breaker.retry_tokens = is_new and config.retries_per_s or math.min(refilled, max_retry_tokens(breaker, config))
  breaker.updated_at = now
end

-- Records what became of calls admitted in `report.epoch`: {epoch, good, bad, trailing, any_good}. Calls from before it last opened
-- say nothing about the upstream as it is now.
local function record(breaker, config, now, report)
  local good, bad, trailing, any_good = report.good, report.bad, report.trailing, report.any_good
  if report.epoch ~= breaker.epoch or not (good + bad + trailing > 0 or any_good) then return end
  breaker.calls, breaker.failures = breaker.calls + good + bad, breaker.failures + bad
  local refilled = breaker.retry_tokens + config.retry_ratio * (good + bad)
  breaker.retry_tokens = math.min(refilled, max_retry_tokens(breaker, config))
  if trailing > 0 then
    if breaker.failures_in_a_row == 0 or any_good then breaker.failing_since = now end
    breaker.last_failed_at = now
  end
  breaker.failures_in_a_row = any_good and trailing or breaker.failures_in_a_row + trailing

  if breaker.state == 'closed' then
    local too_many = breaker.calls >= config.min_calls and breaker.failures >= config.failure_ratio * breaker.calls
    if (breaker.failures_in_a_row >= config.min_calls or too_many) and is_down(breaker, now) then open(breaker, config, now) end
  elseif breaker.state == 'open' then
    if any_good then
      half_open(breaker, now)
    else
      breaker.next_probe_at = math.max(breaker.next_probe_at, next_probe(breaker, config, now))
    end
  elseif breaker.failures_in_a_row >= math.min(config.min_calls, FIRST_STEP) and is_down(breaker, now) then
    open(breaker, config, now)
  end
end

-- Ends a half-open step whose time is up: the next one admits twice as many if this one was used up. Closes the breaker if no call
-- was refused for a while.
local function advance_step(breaker, now)
  if breaker.state ~= 'half_open' then return end
  if now >= breaker.step_ends_at then
    if breaker.step_admitted >= breaker.step_limit then breaker.step_limit = 2 * breaker.step_limit end
    breaker.step_ends_at, breaker.step_admitted, breaker.step_offered = now + STEP_MS, 0, 0
  end
  if now - breaker.last_refused_at >= QUIET_MS then breaker.state = 'closed' end
end

-- Decisions return: how many are admitted, in how many ms to ask again, and 1 if a failure should cost no attempt.

local function decide_first(breaker, config, now)
  if breaker.state == 'closed' then return 1, 0, 0 end
  if breaker.state == 'open' then
    if now < breaker.next_probe_at then return 0, breaker.next_probe_at - now, 0 end
    breaker.next_probe_at, breaker.has_probed = next_probe(breaker, config, now), 1
    local is_free = now - breaker.open_since < FREE_PROBES * config.probe_interval_ms
    return 1, 0, is_free and 1 or 0
  end
  if breaker.step_admitted < breaker.step_limit then
    breaker.step_admitted = breaker.step_admitted + 1
    return 1, 0, 0
  end
  breaker.last_refused_at = now
  return 0, breaker.step_ends_at - now, 0
end

local function decide_retry(breaker, config, now, has_turn)
  if breaker.state ~= 'closed' then return decide_first(breaker, config, now) end
  -- First calls fail in a row: in a moment it will be clear whether the upstream is down.
  local settled_at = breaker.last_failed_at + SETTLE_MS
  if breaker.failures_in_a_row >= 3 and now < settled_at then return 0, settled_at - now, 0 end
  if breaker.retry_tokens >= 1 and (has_turn or breaker.next_retry_at <= now) then
    breaker.retry_tokens = breaker.retry_tokens - 1
    return 1, 0, 0
  end
  local per_s = config.retries_per_s + config.retry_ratio * breaker.calls / (DECAY_MS / 1000)
  breaker.next_retry_at = math.max(breaker.next_retry_at, now) + 1000 / math.max(per_s, 0.1)
  return 0, breaker.next_retry_at - now, 0
end

-- For a wait list: how many of its first tasks may ask for themselves, or 'last' for its last one.
local function decide_wait_list(breaker, now, waiting)
  if breaker.state == 'closed' then return waiting, 0, 0 end
  if breaker.state == 'open' then
    if now < breaker.next_probe_at then return 0, breaker.next_probe_at - now, 0 end
    -- One list at a time: the task that it lets run has SETTLE_MS to ask. The first one of an outage most likely failed before: if
    -- a second call succeeds, the upstream is up. After that it is one that was not called yet.
    if now < breaker.step_ends_at then return 0, breaker.step_ends_at - now, 0 end
    breaker.step_ends_at = now + SETTLE_MS
    if waiting == 0 then return 0, SETTLE_MS, 0 end
    return breaker.has_probed == 0 and 1 or 'last', SETTLE_MS, 0
  end
  if waiting > 0 then
    breaker.last_refused_at = now
  elseif now - breaker.last_refused_at >= 2 * STEP_MS then
    breaker.state = 'closed'
  end
  local spoken_for = math.max(breaker.step_admitted, breaker.step_offered)
  local free = math.max(0, math.min(breaker.step_limit - spoken_for, waiting))
  breaker.step_offered = spoken_for + free
  return free, breaker.step_ends_at - now, 0
end

-- Decides on a request: 'first', 'retry', 'reserved_retry' or 'wait_list <waiting tasks>'.
local function decide(breaker, config, now, request)
  if request == 'first' then return decide_first(breaker, config, now) end
  if request == 'retry' then return decide_retry(breaker, config, now, false) end
  if request == 'reserved_retry' then return decide_retry(breaker, config, now, true) end
  return decide_wait_list(breaker, now, tonumber(string.match(request, '^wait_list (%d+)$')))
end
