-- find_waiting.lua: searches a page of a list of waiting tasks for an id, from the right, where tasks are claimed; and takes the task off
-- the list if asked to.
-- KEYS  list, stored, scheduled
-- ARGV  id; json_id: the id as JSON writes it; skip: how many tasks from the right were searched before; max_tasks: the size of the page,
--       which the caller chooses by the size of the last tasks, as all of it is read at once; serial: of the task if it is to be taken,
--       '' only to look; hold_ms: when a task that was taken can be claimed again
-- Returns {tasks in the page, their bytes, how many tasks will be claimed before the one that has the id or -1, its entry if it was
--       taken}.
-- Guarantees: a task that was taken is scheduled, so that it is claimed like any other if its caller dies. The newest task of the list
--       takes its place, because removing an element from the middle of a list takes long; all others keep their order. Works when
--       Redis is out of memory: the first write is a removal.
local list, stored, scheduled = unpack(KEYS)
local id, json_id, skip, max_tasks, serial, hold_ms = unpack(ARGV)

local function has_id(raw)
  if not may_have_id(raw, json_id) then return false end
  local is_json, task = pcall(cjson.decode, raw)
  return is_json and type(task) == 'table' and task.id == id
end

-- Takes the task off the list that has `before` others on its right.
local function take(before, raw)
  expect_type('hash', stored)
  expect_type('zset', scheduled)
  local now = now_ms()
  local newest = redis.call('LPOP', list)
  if redis.call('LLEN', list) > before then redis.call('LSET', list, -before - 1, newest) end
  local entry = serial .. ' ' .. now .. ' 0 0 -\n' .. raw
  redis.call('HSET', stored, serial, entry)
  redis.call('ZADD', scheduled, now + hold_ms, serial)
  return entry
end

local page, bytes = redis.call('LRANGE', list, -skip - max_tasks, -skip - 1), 0
for i = #page, 1, -1 do
  bytes = bytes + #page[i]
  if has_id(page[i]) then
    local before = skip + #page - i
    return {#page, bytes, before, serial ~= '' and take(before, page[i]) or ''}
  end
end
return {#page, bytes, -1, ''}
