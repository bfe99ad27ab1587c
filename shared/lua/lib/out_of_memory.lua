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

-- Sets a string, with the options of SET. What comes first, only if Redis has refused to do without, changes nothing: it sets the time to
-- live that is left.
local function set_string(key, value, ...)
  local reply = redis.pcall('SET', key, value, ...)
  if reply.ok then return end
  if string.find(reply.err, 'OOM ', 1, true) then
    local left_ms = redis.call('PTTL', key)
    if left_ms > 0 then redis.call('PEXPIRE', key, left_ms) else redis.call('PERSIST', key) end
  end
  redis.call('SET', key, value, ...)
end
