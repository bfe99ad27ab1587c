-- lib/count.lua: counts what scripts did.
-- A counter is for people to look at. One that cannot be written, because its key has another type, must not hold up a task, hence the
-- pcall.
local function count(stats, name, amount)
  redis.pcall('HINCRBY', stats, name, string.format('%d', amount))
end
