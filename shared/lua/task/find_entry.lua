-- find_entry.lua: searches some of the tasks that a hash holds for those that may have an id.
-- KEYS  held: the hash, a worker's tasks or the stored ones
-- ARGV  json_id: the id as JSON writes it; first_seen_ms: when a task was first claimed whose id is derived from that, '' if the id is
--       not a derived one; cursor: of HSCAN; max_tasks; max_bytes: the task that reaches it is among the last ones
-- Returns {the next cursor, 0 after the last task; tasks that were searched; token, entry, ... of those that may have the id}.
-- Guarantees: reads nothing but the hash. A task that is there from the first to the last call is not missed. Small tasks are read ten at a
--       time, large ones one at a time.
local held = unpack(KEYS)
local json_id, first_seen_ms, cursor, max_tasks, max_bytes = unpack(ARGV)

local function is_candidate(entry)
  if first_seen_ms ~= '' and string.match(entry, '^%S+ (%d+) ') == first_seen_ms then return true end
  return may_have_id(entry, json_id)
end

local reply, room, bytes_left, count = {0, 0}, tonumber(max_tasks), tonumber(max_bytes), 1
repeat
  local scanned = redis.call('HSCAN', held, cursor, 'COUNT', count)
  local page, bytes = scanned[2], 0
  cursor = scanned[1]
  for i = 1, #page, 2 do
    bytes = bytes + #page[i + 1]
    if is_candidate(page[i + 1]) then
      reply[#reply + 1] = page[i]
      reply[#reply + 1] = page[i + 1]
    end
  end
  local tasks = #page / 2
  reply[2] = reply[2] + tasks
  room, bytes_left = room - math.max(tasks, 1), bytes_left - bytes
  count = bytes > 16384 * tasks and 1 or 10
until cursor == '0' or room <= 0 or bytes_left <= 0
reply[1] = cursor
return reply
