-- extend_slots.lua: renews the leases of the concurrency slots of calls that are still in flight.
-- KEYS  limit_key; slots: the calls in flight
-- ARGV  slot_lease_ms: from now; then the tokens
-- Returns how many of them hold a slot.
-- Guarantees: a slot whose lease has ended is not taken again. Works when Redis is out of memory.
local limit_key, slots = unpack(KEYS)
local slot_lease_ms = unpack(ARGV, 1, 1)

local last_now, clock_skew = unpack(redis.call('HMGET', limit_key, 'last_now', 'clock_skew'))
local slots_until = to_text(monotonic(now_us(), last_now, clock_skew) + slot_lease_ms * 1000)
local extended = 0
allow_hash_when_out_of_memory(limit_key)
for i = 2, #ARGV do
  if redis.call('ZSCORE', slots, ARGV[i]) then
    redis.call('ZADD', slots, slots_until, ARGV[i])
    extended = extended + 1
  end
end
if extended > 0 then redis.call('PEXPIRE', slots, slot_lease_ms * 2 + 60000) end
return extended
