-- lib/stream.lua: the stream of a task's answer, as readers meet it.
-- Each entry has a type `t` and data `d`. Those of one delivery have ids with the same first half, in which `<first half>-1` is its head,
-- with the delivery's token as `by`. `end` and `error` are the last entry of a task: what comes behind one is another task's.

-- The first half of the id, as a number, and the type of a stream's last entry; nil if the stream has no entry.
local function last_of_stream(stream)
  local entry = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if not entry then return nil end
  return tonumber(string.match(entry[1], '^%d+')), entry[2][2]
end

local function ends_stream(kind)
  return kind == 'end' or kind == 'error'
end

-- Appends the last entry, "<type> <data>". A key that is not a stream, or that may not be written, must not hold up the result, hence the
-- pcall.
local function end_stream(stream, last, ttl_ms)
  if redis.pcall('TYPE', stream).ok == 'stream' and ends_stream(select(2, last_of_stream(stream))) then
    redis.call('DEL', stream)
  end
  local kind, data = string.match(last, '^(%a+) (.*)$')
  if type(redis.pcall('XADD', stream, '*', 't', kind, 'd', data)) == 'string' then
    redis.call('PEXPIRE', stream, ttl_ms)
  end
end
