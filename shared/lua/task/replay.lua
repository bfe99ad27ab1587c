-- replay.lua: puts a dead letter back on its queue as if it had just been pushed.
-- KEYS  dead, waiting, stats, stored, scheduled; then result_key and stream, unless the task's id could not be read
-- ARGV  letter: all bytes of the dead letter; serial: of a delivery, which is stored as due now; otherwise empty
-- Returns 1, or 0 if the dead letter is gone.
-- Guarantees: the producer's exact bytes go back. The old result and stream are deleted, so that a waiter gets the new one. Works when Redis is
--       out of memory: the first write is a removal.
local dead, waiting, stats, stored, scheduled, result_key, stream = unpack(KEYS, 1, 7)
local letter, serial = unpack(ARGV)

expect_type('list', waiting)
if serial ~= '' then
  expect_type('hash', stored)
  expect_type('zset', scheduled)
end
if redis.call('ZREM', dead, letter) == 0 then return 0 end
local _, raw = split_entry(letter)
if serial == '' then
  redis.call('LPUSH', waiting, raw)
else
  store_delivery(stored, scheduled, serial, raw)
end
count(stats, 'replayed', 1)
if result_key then redis.call('DEL', result_key, stream) end
return 1
