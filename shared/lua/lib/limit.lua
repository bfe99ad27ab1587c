-- lib/limit.lua: a limit as it lies in Redis. Prepended, behind lib/bucket, to every script of a limit.
-- Fields of its hash: set, config, inline: definitions "<rate> <per_ms> <burst> <concurrency>", '-' where there is none, of
-- which the first counts; inline_at: when the task came that said so; full: the bucket; idle: when a call last found it
-- full; closed: nothing before; seen, skew: the clock; took, turn: how long calls take, and when the next place should be free.

-- This limit's own time in microseconds: Redis TIME, that never goes back. A clock set back is made up for from then on,
-- so that it neither refills the bucket nor holds everyone up. Returns it, and the skew to be stored with it.
local function limit_now(seen, skew)
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2] + (tonumber(skew) or 0)
  local back = (tonumber(seen) or 0) - now
  if back > 0 then return now + back, (tonumber(skew) or 0) + back end
  return now, tonumber(skew) or 0
end

-- A definition taken apart, or nil. Where no burst is stated it is one second's worth, and one call's at least.
local function definition(text)
  local rate, per, burst, places = string.match(text or '', '^(%S+) (%S+) (%S+) (%S+)$')
  if not rate then return nil end
  local limit = {rate = tonumber(rate), per_us = (tonumber(per) or 1000) * 1000, places = tonumber(places)}
  limit.stated = tonumber(burst)
  if limit.rate then limit.burst = limit.stated or math.max(1, limit.rate * 1000000 / limit.per_us) end
  return limit
end

-- The definition that counts of those that there are, or nil.
local function in_force(set, config, inline)
  return definition(set or nil) or definition(config or nil) or definition(inline or nil)
end

local function number(n) return string.format('%.2f', n) end
