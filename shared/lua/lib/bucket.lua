-- lib/bucket.lua: the arithmetic of a token bucket. Pure: no Redis, and `now` is an argument.
-- A bucket is stored as one number, the time at which it will be full again: the "theoretical arrival time" of the generic cell
-- rate algorithm (GCRA, ITU-T I.371 annex A, virtual scheduling). It is never refilled, only compared with the clock. Times are in
-- microseconds and whole quarters of one, which a double holds exactly until the year 2041. Costs are rounded up, and what may be
-- taken at once is rounded down, so that rounding never admits too much.
-- limit: {rate, per_us, burst, stated_burst}. Without a rate everything passes; cost 0 passes and takes nothing.

-- How long the bucket takes to refill `cost` tokens.
local function refill_time(limit, cost)
  if not limit.rate then return 0 end
  return math.ceil(cost * limit.per_us / limit.rate * 4) / 4
end

-- How much earlier the bucket is full when `cost` tokens are given back: rounded down, so that no more is given back than was taken.
local function refund_time(limit, cost)
  return math.floor(cost * limit.per_us / limit.rate * 4) / 4
end

-- What takes longer to refill than this is never taken: beyond it, times would not be exact, and one call would block all others.
local MAX_REFILL_US = 2 * 366 * 86400 * 1000000

-- The largest cost that may be taken at once, or nil if there is no bound.
local function most_at_once(limit)
  if not limit.rate then return nil end
  return math.min(limit.stated_burst or math.huge, MAX_REFILL_US * limit.rate / limit.per_us)
end

-- A call's `usage` as far as it is believed: a hundred times what was estimated, or all that is refilled in a period if that is more.
-- An answer that states more is wrong or hostile, and would close the limit for years.
local function believable(limit, usage, cost)
  return math.min(usage, math.max(100 * cost, limit.rate), MAX_REFILL_US * limit.rate / limit.per_us)
end

-- The first time, from `now` on, at which `cost` tokens may be taken from a bucket that is full at `full_at`.
local function earliest(limit, full_at, now, cost)
  if not limit.rate then return now end
  local tolerance = math.floor(math.max(limit.burst - cost, 0) * limit.per_us / limit.rate * 4) / 4
  return math.max(now, full_at - tolerance)
end

-- When the bucket will be full after `cost` tokens are taken at `at`.
local function full_at_after(limit, full_at, at, cost)
  return math.max(full_at, at) + refill_time(limit, cost)
end

-- Marks are what must be known of the past to give something back. A grant's slack is by how much the bucket would still not have been
-- full at its moment. Of what an earlier grant took, no more can go back than the least slack of those with later moments: beyond that
-- the bucket would have been full, and the tokens lost. A mark {at, slack} is a grant for which there is no later one with less slack.
local MAX_MARKS = 8

local function parse_marks(text)
  local marks = {}
  for at, slack in string.gmatch(text or '', '(%S+) (%S+)') do marks[#marks + 1] = {at = tonumber(at), slack = tonumber(slack)} end
  return marks
end

-- Adds a grant for the moment `at`, from a bucket that is full at `full_at`.
local function note_grant(marks, full_at, at)
  local slack = math.max(full_at - at, 0)
  -- Most calls that are granted together have one moment, and each leaves more slack than the one before.
  local last = marks[#marks]
  if last and last.at >= at and last.slack <= slack then return marks end
  local kept = {}
  for _, mark in ipairs(marks) do
    if mark.at >= at and mark.slack <= slack then return marks end
    if mark.at > at or mark.slack < slack then kept[#kept + 1] = mark end
  end
  kept[#kept + 1] = {at = at, slack = slack}
  table.sort(kept, function(one, other) return one.at < other.at end)
  if #kept > MAX_MARKS then kept[2].slack = table.remove(kept, 1).slack end
  return kept
end

-- When the bucket is full if what took `refill_us` to refill is given back by a call that was granted for `granted_at`. Reduces the
-- marks accordingly.
local function give_back(marks, full_at, granted_at, refill_us)
  for _, mark in ipairs(marks) do
    if mark.at > granted_at then refill_us = math.min(refill_us, mark.slack) end
  end
  for _, mark in ipairs(marks) do
    if mark.at > granted_at then mark.slack = mark.slack - refill_us end
  end
  return full_at - refill_us
end

-- The tokens left at `now`; negative while the bucket runs a debt.
local function tokens_left(limit, full_at, now)
  return limit.burst - math.max(full_at - now, 0) * limit.rate / limit.per_us
end
