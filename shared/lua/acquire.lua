-- acquire.lua: ask a limit for some calls, in turn: each may go, or is given a time of its own to come back at.
-- KEYS  1 the limit   2 its flows   3 its places in flight   4 the lines of its flows
-- ARGV  1 'config', 'inline' or 'name': who defines it here   2 that definition (see lib/limit), '' for 'name'
--       3 how many us early a call may come that sits its wait out in its worker   4 the lease of a place in ms
--       5 the time to live in ms of what only tasks define   6 when in ms the task that defines it came: the newest counts
--       then for each call: flow, cost, what it was given before (0: nothing), token
-- Returns 1 when it is defined otherwise than before, else 0; then for each call: {'go', wait in us (10000 at most),
--       whether it holds a place, when by this limit's clock}; {'park', wait in us, what it is given: a time by this
--       limit's clock, less than 0 for one in the line}; {'over', burst}, the cost can never be met; {'undefined'}, no one
--       says what this limit is.
-- Guarantees: in any window of length t, by this Redis's clock, no more than burst + rate * t go, whoever asks and however
--       late they come: a time that was given is no right to go but a place in time, and is asked for again then. Flows that
--       want more than there is get equal shares of the times. Who comes on time and finds the rate used (more was booked than
--       there is, or others came late) joins its flow's line, which goes before all of the flow that come after and has an equal
--       share of the rate as well: so none asks in vain for long.
--       Who comes more than a second late, as when the fleet was down, books anew; so does who comes long before its time.
--       An answer that is lost is some of the rate lost, never too many calls; a place asked for twice by one token is one place.
--       A full Redis takes it: HDEL is the first write.
local SLACK, MISSED = 10000, 1000000
local held = redis.call('HMGET', KEYS[1], 'set', 'config', 'inline', 'full', 'closed', 'seen', 'skew', 'took', 'turn', 'idle', 'inline_at')
redis.call('ZCARD', KEYS[2]) -- These fail on a key of another type before anything is written: Redis does not roll back.
redis.call('ZCARD', KEYS[3])
redis.call('ZCARD', KEYS[4])
local inline, config = held[3], held[2]
if ARGV[1] == 'config' then config = ARGV[2] end
local newer = ARGV[1] == 'inline' and (not inline or tonumber(ARGV[6]) > tonumber(held[11] or 0))
if newer then inline = ARGV[2] end
local limit = in_force(held[1], config, inline)
local reply = {0}
if not limit then
  for _ = 7, #ARGV, 4 do reply[#reply + 1] = {'undefined'} end
  return reply
end

local now, skew = limit_now(held[6], held[7])
local full, closed, idle = tonumber(held[4] or 0), tonumber(held[5] or 0), tonumber(held[10] or 0)
redis.call('HDEL', KEYS[1], '-')
local was = held[1] or held[2] or held[3]
if was and was ~= (held[1] or config or inline) then -- What was booked under another rate counts no more.
  reply[1], full = 1, under(limit, definition(was), full, now)
  redis.call('DEL', KEYS[2], KEYS[4])
end
for key = 2, 4 do redis.call('ZREMRANGEBYSCORE', KEYS[key], '-inf', number(now)) end

local function place(token)
  if not limit.places or redis.call('ZSCORE', KEYS[3], token) then return true end
  if redis.call('ZCARD', KEYS[3]) >= limit.places then return false end
  redis.call('ZADD', KEYS[3], number(now + ARGV[4] * 1000), token)
  return true
end

-- The next time of a flow's from `at` on, of which those that have some in `key` get equal shares; `burst`: what may go at once.
local function book(key, flow, cost, at, burst)
  local known = redis.call('ZSCORE', key, flow)
  local last, others = tonumber(known or 0), redis.call('ZCARD', key) - (known and 1 or 0)
  at = math.max(burst and earliest(limit, last, now, cost) or last, at)
  redis.call('ZADD', key, number(taken(limit, last, at, cost * (others + 1))), flow)
  return at
end

local took, turn = tonumber(held[8] or 100000), tonumber(held[9] or 0)
local function ask(flow, cost, given, token)
  if limit.stated and limit.rate and cost > limit.stated then return {'over', number(limit.stated)} end
  local told = math.abs(given)
  if told - now > SLACK and told - now <= tonumber(ARGV[3]) and closed <= told then return {'park', math.ceil(told - now), given} end
  local at = math.max(earliest(limit, full, now, cost), closed)
  local in_line = given < 0
  if limit.rate and (given == 0 or told - now > SLACK or now - told > MISSED) then
    at, in_line = book(KEYS[2], flow, cost, at, true), false
    if at - now > SLACK then return {'park', math.ceil(at - now), math.ceil(at)} end
  end
  local function is_behind_a_line() return tonumber(redis.call('ZSCORE', KEYS[4], flow) or 0) - now > SLACK end
  if at - now > SLACK or limit.rate and not in_line and is_behind_a_line() then
    if limit.rate then at = book(KEYS[4], flow, cost, at, false) end
    return {'park', math.ceil(at - now), -math.ceil(at)}
  end
  if not place(token) then
    at = math.max(now + took / 2, turn)
    turn = at + took / limit.places
    return {'park', math.ceil(at - now), -math.ceil(at)}
  end
  if full <= at then idle = at end
  full = taken(limit, full, at, cost)
  return {'go', math.ceil(at - now), limit.places and 1 or 0, number(at)}
end
for i = 7, #ARGV, 4 do
  reply[#reply + 1] = ask(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3])
end

redis.call('HSET', KEYS[1], 'full', number(full), 'seen', number(now), 'skew', number(skew), 'idle', number(idle))
if turn > now then redis.call('HSET', KEYS[1], 'turn', number(turn)) end
if ARGV[1] == 'config' and config ~= held[2] then redis.call('HSET', KEYS[1], 'config', config) end
if newer then redis.call('HSET', KEYS[1], 'inline', inline, 'inline_at', ARGV[6]) end
-- What is defined elsewhere stays; else it is kept at least twice as long as its bucket takes to fill.
if held[1] or config then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], math.ceil(math.max(ARGV[5], 2 * (math.max(full, closed) - now) / 1000)))
end
for _, key in ipairs({KEYS[2], KEYS[4]}) do
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  if last then redis.call('PEXPIRE', key, math.ceil(math.max(1, (last - now) / 1000)) + 60000) end
end
if limit.places then redis.call('PEXPIRE', KEYS[3], ARGV[4] * 2 + 60000) end
return reply
