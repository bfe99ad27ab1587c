-- lib/types.lua: type checks before the first write.
-- Redis does not roll a failed script back. A script whose keys have the expected types cannot fail halfway, so it reads each
-- key once before it writes anything. A missing key has any type.
local PROBE = {list = 'LLEN', hash = 'HLEN', zset = 'ZCARD'}

-- The length of a key that a script can do without, or -1 if it has another type.
local function length_if(kind, key)
  local length = redis.pcall(PROBE[kind], key)
  return type(length) == 'number' and length or -1
end

-- Fails with WRONGTYPE unless every key has this type.
local function expect_type(kind, ...)
  local probe = PROBE[kind]
  for _, key in ipairs({...}) do redis.call(probe, key) end
end
