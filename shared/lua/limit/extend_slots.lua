-- extend_slots.lua: renews the leases of the concurrency slots of calls that are still in flight.
-- KEYS  limit_key; slots: the calls in flight
-- ARGV  slot_lease_ms: from now; then the tokens
-- Returns how many of them hold a slot.
-- Guarantees: a slot whose lease has ended is not taken again. Works when Redis is out of memory.
local limit_key, slots = unpack(KEYS)
local slot_lease_ms = unpack(ARGV, 1, 1)

local last_now, clock_skew, last_slots_now, slots_seen =
  unpack(redis.call('HMGET', limit_key, 'last_now', 'clock_skew', 'slots_now', 'slots_seen'))
local now = monotonic(now_us(), last_now, clock_skew)
local slots_now = slot_time(now, last_slots_now, slots_seen, slot_lease_ms * 1000)
local slots_until = to_text(slots_now + slot_lease_ms * 1000)
local extended = 0
allow_hash_when_out_of_memory(limit_key)
for i = 2, #ARGV do
  if redis.call('ZSCORE', slots, ARGV[i]) then
    redis.call('ZADD', slots, slots_until, ARGV[i])
    extended = extended + 1
  end
end
if last_now then redis.call('HSET', limit_key, 'slots_now', to_text(slots_now), 'slots_seen', to_text(now)) end
if extended > 0 then redis.call('PEXPIRE', slots, KEEP_SLOTS_MS) end
return extended
