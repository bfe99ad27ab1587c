-- lib/follow_up.lua: what follows on a task that has ended. Needs lib/clock and lib/types.
-- A task goes to the waiting list, as if its producer had pushed it. A delivery, which begins with 'delivery ', is stored as due now, with a
-- serial that ends in ':callback': only Redial writes there, so no producer can have one made up.
local DELIVERY = '^delivery (.*)$'

-- Fails with WRONGTYPE if a delivery among these arguments could not be stored.
local function expect_room_for_deliveries(stored, scheduled, arguments)
  if length_if('hash', stored) >= 0 and length_if('zset', scheduled) >= 0 then return end
  for _, argument in ipairs(arguments) do
    if string.find(argument, DELIVERY) then
      expect_type('hash', stored)
      expect_type('zset', scheduled)
    end
  end
end

-- Stores a delivery as due now.
local function store_delivery(stored, scheduled, serial, delivery)
  local now = now_ms()
  redis.call('HSET', stored, serial, serial .. ' ' .. now .. ' 0 0 -\n' .. delivery)
  redis.call('ZADD', scheduled, now, serial)
end

local function push_follow_up(waiting, stored, scheduled, token, follow_up)
  local delivery = string.match(follow_up, DELIVERY)
  if delivery then
    store_delivery(stored, scheduled, token .. ':callback', delivery)
  else
    redis.call('LPUSH', waiting, follow_up)
  end
end
