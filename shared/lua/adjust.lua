-- adjust.lua: tell a limit what was learnt after it let a call go.
-- KEYS  1 the limit   2 its flows
-- ARGV  1 let nothing go for so many us from now (0: as before)   2 cost to take besides; less than 0 gives back
--       3 the flow that pays it   4 let no more than this go at once from now on ('': as before)
--       5 when the call was let go, by this limit's clock
-- Returns 1, or 0 when there is no such limit (any more).
-- Guarantees: a closing is only ever made longer; what is given back counts only where no call has found the bucket full
--       since, and so makes no more than had the call not asked; HDEL comes before what takes memory: a full Redis takes it.
--       Sent twice it errs to the side of fewer calls, but for a giving back.
local held = redis.call('HMGET', KEYS[1], 'set', 'config', 'inline', 'full', 'closed', 'seen', 'skew', 'idle')
local limit = in_force(held[1], held[2], held[3])
if not limit then return 0 end
redis.call('ZCARD', KEYS[2]) -- Fails on a key of another type before anything is written: Redis does not roll back.
local now, skew = limit_now(held[6], held[7])
local full, closed, cost = tonumber(held[4] or 0), tonumber(held[5] or 0), tonumber(ARGV[2])
if tonumber(ARGV[1]) > 0 then closed = math.max(closed, now + ARGV[1]) end
if limit.rate then
  if cost > 0 then
    full = math.max(full, now) + span(limit, cost)
  elseif tonumber(held[8] or 0) <= tonumber(ARGV[5]) then
    full = full - span(limit, -cost)
  end
  if ARGV[4] ~= '' then full = math.max(full, now + span(limit, math.max(0, limit.burst - ARGV[4]))) end
end
redis.call('HDEL', KEYS[1], '-')
redis.call('HSET', KEYS[1], 'full', number(full), 'closed', number(closed), 'seen', number(now), 'skew', number(skew))
local flow_full = redis.call('ZSCORE', KEYS[2], ARGV[3])
if flow_full and limit.rate and cost > 0 then redis.call('ZADD', KEYS[2], number(flow_full + span(limit, cost)), ARGV[3]) end
local ttl, needed = redis.call('PTTL', KEYS[1]), math.ceil(2 * (math.max(full, closed) - now) / 1000)
if ttl >= 0 and ttl < needed then redis.call('PEXPIRE', KEYS[1], needed) end
return 1
