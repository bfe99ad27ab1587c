-- lib/full.lua: how a full Redis can still be drained. Prepended to every script whose first write would take memory.
-- Out of memory, Redis refuses a script's first write if that may take memory, and lets through whatever follows a
-- first write that may not. PERSIST may not, and changes nothing on a key without a time to live.
local function write_though_full(key)
  redis.call('PERSIST', key)
end
