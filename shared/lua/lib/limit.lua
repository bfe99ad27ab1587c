-- lib/limit.lua: a limit as Redis stores it. Pure. Needs lib/bucket.
-- A definition is "<rate> <per_ms> <burst> <concurrency>" with '-' for none, and perhaps the unit of the rate, which is for people.
-- Fields of its hash, besides those of lib/definition:
--   full_at, marks: the bucket (see lib/bucket); closed_until: nothing is granted for a moment before; closed_at, closed_by: since when it
--     is closed, and why, for people
--   last_now, clock_skew: the limit's clock (see monotonic)
--   slots_now, slots_seen: the clock of its concurrency slots, and when it was last read (see slot_time)
--   lead:<group>: the worker that drains the wait lists of queues, until when it leads, and until when others may help it

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

-- A number as it is stored: quarters of a microsecond stay exact. Calls that are granted together often have the same moment.
local texts = {}
local function to_text(number)
  local text = texts[number] or string.format('%.2f', number)
  texts[number] = text
  return text
end

-- Marks as they are stored.
local function marks_text(marks)
  local words = {}
  for _, mark in ipairs(marks) do words[#words + 1] = to_text(mark.at) .. ' ' .. to_text(mark.slack) end
  return table.concat(words, ' ')
end

-- The marks of a bucket from which nothing that was granted so far can be given back: it was filled or emptied by other means. Grants lie
-- less than ten seconds ahead.
local function no_more_to_give_back(now)
  return to_text(now + 10000000) .. ' 0'
end
