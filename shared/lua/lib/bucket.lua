-- lib/bucket.lua: the arithmetic of a token bucket, apart from clock and store. Prepended to the scripts of a limit.
-- A bucket is one number, the time at which it will be full again ("theoretical arrival time", GCRA, ITU-T I.371), in
-- microseconds: never refilled, only compared with the clock. All is kept in whole quarters of a microsecond, which a
-- double holds exactly until the year 2041; costs are rounded up and what may be taken at once down, so never too much.
-- limit: {rate, per_us, burst}; without a rate all passes. Cost 0 passes and takes nothing.
local function span(limit, cost)
  if not limit.rate then return 0 end
  return math.ceil(cost * limit.per_us / limit.rate * 4) / 4
end

-- The first moment from `now` on at which `cost` may be taken.
local function earliest(limit, full, now, cost)
  if not limit.rate then return now end
  local ahead = math.floor(math.max(limit.burst - cost, 0) * limit.per_us / limit.rate * 4) / 4
  return math.max(now, full - ahead)
end

-- When the bucket will be full after `cost` is taken at `at`.
local function taken(limit, full, at, cost)
  return math.max(full, at) + span(limit, cost)
end

-- What is left at `now`; less than nothing when the bucket runs a debt.
local function left(limit, full, now)
  return limit.burst - math.max(full - now, 0) * limit.rate / limit.per_us
end

-- When it will be full under another limit, as much as is missing now being missing then.
local function under(limit, was, full, now)
  if not (was and was.rate and limit and limit.rate) or full <= now then return full end
  return now + span(limit, (full - now) * was.rate / was.per_us)
end
