-- lib/limit.lua: a limit as Redis stores it. Pure. Needs lib/bucket.
-- A definition is "<rate> <per_ms> <burst> <concurrency>" with '-' for none, and perhaps the unit of the rate, which is for people.
-- Fields of its hash, besides those of lib/definition:
--   full_at: the bucket (see lib/bucket); last_full_at: when a call last found it full; closed_until: nothing is admitted before
--   last_now, clock_skew: the limit's clock (see monotonic)
--   slots_now, slots_seen: the clock of its concurrency slots, and when it was last read (see slot_time)
--   avg_call_us: how long a call takes, smoothed; next_slot_at: when the next concurrency slot should be free

-- The limit's own time, which never goes back: returns it, and the skew to store with it. A clock that was set back is compensated
-- from then on, so that the step neither refills the bucket nor holds everyone up.
local function monotonic(redis_now, last_now, clock_skew)
  local skew = tonumber(clock_skew) or 0
  local now = redis_now + skew
  local step_back = (tonumber(last_now) or 0) - now
  if step_back > 0 then return now + step_back, skew + step_back end
  return now, skew
end

-- The time by which concurrency slots are leased. Whoever holds one reads it four times a lease, so when it was not read for longer than
-- half a lease, either no one holds any or the clock of Redis was set forward: at most that much counts.
local function slot_time(now, slots_now, slots_seen, slot_lease_us)
  if not slots_now then return now end
  return slots_now + math.max(0, math.min(now - slots_seen, slot_lease_us / 2))
end

-- How long the slots of a limit that no one uses any more are kept: longer than clocks are set forward by.
local KEEP_SLOTS_MS = 86400000

-- A definition as a table, or nil. Without a stated burst, the burst is one second's worth and at least one call.
local function parse_definition(text)
  local rate, per_ms, burst, slots = string.match(text or '', '^(%S+) (%S+) (%S+) (%S+)')
  if not rate then return nil end
  local limit = {rate = tonumber(rate), per_us = (tonumber(per_ms) or 1000) * 1000, slots = tonumber(slots)}
  limit.stated_burst = tonumber(burst)
  if limit.rate then limit.burst = limit.stated_burst or math.max(1, limit.rate * 1000000 / limit.per_us) end
  return limit
end

-- A number as it is stored: quarters of a microsecond stay exact.
local function to_text(number)
  return string.format('%.2f', number)
end
