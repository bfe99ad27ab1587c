-- lib/memo.lua: what the scripts of memos share.

local DAY_MS, TEN_MINUTES_MS = 86400000, 600000

-- Whether a memo with this `leader` has one. The field is empty once it has settled.
local function is_led_by(leader)
  return leader and leader ~= ''
end

-- How much longer than its lead a memo is kept. If a call may have been sent that may not be sent twice, that must not be forgotten with
-- its leader. Otherwise as long as the answer will be kept, so that storing it need not set the time to live again; but long enough
-- for all followers to find out that their leader is gone, and no longer than a day.
local function spare_ms(keep_ms, once)
  if once == '1' then return DAY_MS end
  return math.min(math.max(tonumber(keep_ms), TEN_MINUTES_MS), DAY_MS)
end

local function append(list, ...)
  for i = 1, select('#', ...) do list[#list + 1] = select(i, ...) end
end

-- The time `ms` after `now`, as text. A number would be printed with 17 digits, which takes Redis as long as a small command. `now`
-- is the same in all of a script.
local times = {}
local function time_after(now, ms)
  times[ms] = times[ms] or string.format('%d', now + ms)
  return times[ms]
end
