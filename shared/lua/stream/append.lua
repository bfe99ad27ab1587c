-- append.lua: appends a part of an answer to the stream of its task, as it arrives.
-- KEYS  held: the hash that holds the task by token, a worker's or that of the stored ones; stream
-- ARGV  token; ttl_ms: how long the stream is kept after this; epoch: the first half of the ids of this delivery, or '' for its first part;
--       number: the second half of the first id; then for each entry its type and data. The first entry of a delivery is `head`, number 1.
-- Returns the epoch, or 0 if the lease was lost: then nothing was written; or -1 if the stream of this delivery is gone, because someone
--       deleted it.
-- Guarantees: fenced by the token, so that deliveries do not interleave. Sent twice, it appends nothing more: each entry has an id of
--       its own, and the head names its token. A delivery that begins after another one had sent something appends a `restart` first; that
--       frees what came before it. What an earlier task of the same id left is deleted. Works when Redis is out of memory, as a result does.
local held, stream = unpack(KEYS)
local token, ttl_ms, epoch, number = unpack(ARGV, 1, 4)

if redis.call('HEXISTS', held, token) == 0 then return 0 end

local function restart(id, why)
  redis.call('XADD', stream, id, 't', 'restart', 'd', why)
  redis.call('XTRIM', stream, 'MINID', id)
end

-- The epoch of a delivery that sends its first part.
local function begin()
  local last, kind = last_of_stream(stream)
  if not last then return now_ms() end
  local following = math.max(now_ms(), last + 1)
  if ends_stream(kind) then
    redis.call('DEL', stream)
    return following
  end
  local head = redis.call('XRANGE', stream, string.format('%.0f-1', last), string.format('%.0f-1', last))[1]
  if head and head[2][6] == token then return last end
  if kind ~= 'restart' then restart(string.format('%.0f-0', following), '{"why":"another delivery of the task begins"}') end
  return following
end

allow_when_out_of_memory(held)
local is_first = epoch == ''
epoch = is_first and begin() or tonumber(epoch)
number = tonumber(number)
for at = 5, #ARGV, 2 do
  local kind, data = unpack(ARGV, at, at + 1)
  local id = string.format('%.0f-%d', epoch, number)
  local added
  if kind == 'head' then
    added = redis.pcall('XADD', stream, id, 't', kind, 'd', data, 'by', token)
  else
    added = redis.pcall('XADD', stream, 'NOMKSTREAM', id, 't', kind, 'd', data)
  end
  if not added then return -1 end
  if type(added) == 'table' then
    -- An entry that is there already has come with an earlier copy of this call.
    if not string.find(added.err, 'equal or smaller', 1, true) then return added end
  elseif kind == 'restart' then
    redis.call('XTRIM', stream, 'MINID', id)
  end
  number = number + 1
end
redis.call('PEXPIRE', stream, ttl_ms)
return epoch
