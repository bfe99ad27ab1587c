-- breaker.lua: tell an upstream's breaker what became of calls, and ask it for leave to make some.
-- KEYS  1 the breaker
-- ARGV  1 this many calls are enough to judge by   2 the share of them (0 to 1) that must have failed   3 ms between probes
--       4 retries per call and 5 per second, that the retry budget allows
--       6 the epoch in which the calls below were let go, 7 how many first calls ended well, 8 and badly, 9 how many calls
--       ended badly since the last that ended well, 10 whether any ended well
--       then for each who asks: 'first', 'retry', 'again' for a retry that was given a time before, or 'line <n>' for the line of
--       a queue in which n tasks wait
-- Returns {epoch, 'closed', 'open' or 'ramp', since when it has not been closed in ms, then for each who asks: how many may go,
--       ms after which to ask again}. Of who may go the second number is 1 when a failure should cost it no attempt. For a line
--       these are tasks to let run, which will ask for themselves: so many of the next in line, or 'last' for the last one.
-- Guarantees: closed: all first calls go, retries as the budget has them. Open: of all who ask, one goes in the time between
--       probes, but for the first, a second after it opened. Ramp: what went in half a second is at most doubled in the next.
--       What was let go before the breaker opened is not held against the upstream afterwards. Sent twice, calls are counted
--       twice and leave is lost; never does more go. A full Redis takes it: HDEL is the first write.
local ENOUGH, SHARE, PROBE, RATIO, PER_S = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local WINDOW, STEP, START, SETTLE, IDLE, WARY, FREE = 10000, 500, 10, 1000, 10000, 60000, 120
local FIELDS = {'epoch', 'since', 'probe', 'step', 'allowed', 'used', 'offered', 'refused', 'failed', 'began', 'back', 'tried', 'streak', 'calls', 'bad', 'at', 'tokens', 'turn'}
local state = redis.call('HGET', KEYS[1], 'state') or 'closed'
local held, b = redis.call('HMGET', KEYS[1], unpack(FIELDS)), {}
for i, field in ipairs(FIELDS) do b[field] = tonumber(held[i] or 0) end
local now = now_ms()
-- A clock that was set back takes all that was noted along.
local back = b.at - now
if back > 0 then
  for _, field in ipairs({'since', 'probe', 'step', 'refused', 'failed', 'began', 'back', 'at', 'turn'}) do b[field] = b[field] - back end
end

-- What has been counts less by the second; the budget fills.
local past = b.at == 0 and 0 or now - b.at
local function most() return PER_S + RATIO * b.calls end
b.calls, b.bad = b.calls * math.exp(-past / WINDOW), b.bad * math.exp(-past / WINDOW)
b.tokens = b.at == 0 and PER_S or math.min(b.tokens + past / 1000 * PER_S, most())
b.at = now

local function next_probe() return now + math.min(math.max((now - b.since) / 6, PROBE), 12 * PROBE) end
local function open()
  if state == 'closed' then b.since = now end
  state, b.epoch, b.streak, b.step, b.tried = 'open', b.epoch + 1, 0, 0, 0
  b.probe = now + math.min(SETTLE, PROBE)
end
-- Once the upstream has come back, failures in a row must have gone on for a while: it may be that of each task the first call
-- fails and the next one does not.
local function is_down() return now - b.back > WARY or now - b.began >= SETTLE end

local good, bad, trailing = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
if tonumber(ARGV[6]) == b.epoch and (good + bad + trailing > 0 or ARGV[10] == '1') then
  b.calls, b.bad = b.calls + good + bad, b.bad + bad
  b.tokens = math.min(b.tokens + RATIO * (good + bad), most())
  if trailing > 0 and (b.streak == 0 or ARGV[10] == '1') then b.began = now end
  b.streak = ARGV[10] == '1' and trailing or b.streak + trailing
  if trailing > 0 then b.failed = now end
  if state == 'closed' then
    if (b.streak >= ENOUGH or b.calls >= ENOUGH and b.bad >= SHARE * b.calls) and is_down() then open() end
  elseif state == 'open' then
    if ARGV[10] == '1' then
      state, b.step, b.allowed, b.used, b.offered = 'ramp', now + STEP, START, 0, 0
      b.refused, b.back, b.streak, b.calls, b.bad = now, now, 0, 0, 0
    else
      b.probe = math.max(b.probe, next_probe())
    end
  elseif b.streak >= math.min(ENOUGH, START) and is_down() then
    open()
  end
end
if state == 'ramp' then
  if now >= b.step then
    if b.used >= b.allowed then b.allowed = 2 * b.allowed end
    b.step, b.used, b.offered = now + STEP, 0, 0
  end
  if now - b.refused >= IDLE then state = 'closed' end
end

local function costs_nothing() return now - b.since < FREE * PROBE and 1 or 0 end
local asks = {}
asks.first = function()
  if state == 'closed' then return 1, 0 end
  if state == 'open' then
    if now < b.probe then return 0, b.probe - now end
    b.probe, b.tried = next_probe(), 1
    return 1, costs_nothing()
  end
  if b.used < b.allowed then
    b.used = b.used + 1
    return 1, 0
  end
  b.refused = now
  return 0, b.step - now
end
local function retry(has_turn)
  if state ~= 'closed' then return asks.first() end
  -- First calls fail one after the other: whether the upstream is down will be known in a moment.
  if b.streak >= 3 and now - b.failed < SETTLE then return 0, b.failed + SETTLE - now end
  if b.tokens >= 1 and (has_turn or b.turn <= now) then
    b.tokens = b.tokens - 1
    return 1, 0
  end
  b.turn = math.max(b.turn, now) + 1000 / math.max(PER_S + RATIO * b.calls / (WINDOW / 1000), 0.1)
  return 0, b.turn - now
end
asks.retry = function() return retry(false) end
asks.again = function() return retry(true) end
asks.line = function(waiting)
  if state == 'closed' then return waiting, 0 end
  if state == 'open' then
    if now < b.probe then return 0, b.probe - now end
    -- One line at a time: whom it lets run has a second to ask. The first time it is one that has failed before, most likely:
    -- if a second call succeeds, the upstream is not down. After that it is one that has not.
    if now < b.step then return 0, b.step - now end
    b.step = now + SETTLE
    if waiting == 0 then return 0, SETTLE end
    return b.tried == 0 and 1 or 'last', SETTLE
  end
  if waiting > 0 then
    b.refused = now
  elseif now - b.refused >= 2 * STEP then
    state = 'closed'
  end
  local free = math.max(0, math.min(b.allowed - math.max(b.used, b.offered), waiting))
  b.offered = math.max(b.used, b.offered) + free
  return free, b.step - now
end
local granted = {}
for i = 11, #ARGV do
  local kind, waiting = string.match(ARGV[i], '^(%a+) ?(%d*)$')
  local go, wait = asks[kind](tonumber(waiting) or 0)
  granted[#granted + 1] = go
  granted[#granted + 1] = math.ceil(wait)
end

redis.call('HDEL', KEYS[1], '-')
local fields = {'state', state}
for _, field in ipairs(FIELDS) do
  fields[#fields + 1] = field
  fields[#fields + 1] = string.format('%.3f', b[field])
end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('PEXPIRE', KEYS[1], 3600000)
return {b.epoch, state, state == 'closed' and 0 or math.floor(b.since), unpack(granted)}
