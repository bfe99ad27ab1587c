-- lib/out_of_memory.lua: how scripts work while Redis is out of memory.
-- At `maxmemory`, Redis refuses a script's first write if that command may use memory, and allows everything after a first write
-- that may not. Scripts that free memory in the end, and so must run then, begin with a removal or with one of these.

-- PERSIST changes nothing on a key without a time to live.
local function allow_when_out_of_memory(key)
  redis.call('PERSIST', key)
end

-- The same for a hash that has a time to live: removes a field that it never has.
local function allow_hash_when_out_of_memory(hash)
  redis.call('HDEL', hash, '-')
end

-- Sets fields of a hash. The removal comes first only if Redis has refused to do without.
local function set_fields(hash, ...)
  local added = redis.pcall('HSET', hash, ...)
  if type(added) == 'number' then return end
  if string.find(added.err, 'OOM ', 1, true) then allow_hash_when_out_of_memory(hash) end
  redis.call('HSET', hash, ...)
end
