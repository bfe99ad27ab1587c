-- mark_started.lua: records that calls are about to be sent, for tasks where "was it sent?" must survive a killed worker.
-- KEYS  active: the tasks this worker holds
-- ARGV  for each task: token; header: the entry's new header
-- Returns for each task 1, or 0 if the lease was lost: then its call must not be made.
-- Guarantees: each task is fenced by its own token, so a lost one does not stop the others; the producers' bytes stay as they are. Works
--       when Redis is out of memory.
local active = unpack(KEYS)

local tokens, headers = {}, {}
for at = 1, #ARGV, 2 do
  local token, header = unpack(ARGV, at, at + 1)
  tokens[#tokens + 1], headers[#headers + 1] = token, header
end

local reply, fields = {}, {}
for i, entry in ipairs(redis.call('HMGET', active, unpack(tokens))) do
  reply[i] = entry and 1 or 0
  if entry then
    local _, raw = split_entry(entry)
    fields[#fields + 1], fields[#fields + 2] = tokens[i], headers[i] .. '\n' .. raw
  end
end
if #fields > 0 then
  allow_when_out_of_memory(active)
  redis.call('HSET', active, unpack(fields))
end
return reply
