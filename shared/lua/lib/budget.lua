-- lib/budget.lua: whether a call would have to wait longer for a limit than it is willing to. Pure. Needs lib/bucket and lib/limit.
-- A call states its bound as text: '' for none, '<us>' for the longest wait whatever the reason, 'spent' if it does not wait for a
-- bucket that does not have enough, or both: '<us> spent'.

-- Whatever is this near is not waited for, but slept through by a worker.
local NO_WAIT_US = 10000

-- Whether a call takes what it needs from the bucket at once, or not at all.
local function dies_when_spent(request)
  return request.max_wait_us and string.find(request.max_wait_us, 'spent', 1, true) and true
end

-- Decides on {fairness_key, cost, reservation, max_wait_us} before anything is taken or reserved: {'over_budget', wait_us}, or nil if the
-- call may ask. `state` is that of lib/booking.
local function over_budget(state, request)
  if request.max_wait_us == '' then return nil end
  local limit, now, cost = state.limit, state.now, request.cost
  local most = most_at_once(limit)
  if most and cost > most then return nil end
  local refilled_at = earliest(limit, state.full_at, now, cost)
  if request.reservation == 0 and not dies_when_spent(request) then
    -- Those of its key that came before go first.
    refilled_at = math.max(refilled_at, earliest(limit, state.reserved.last[request.fairness_key] or 0, now, cost))
  end
  local refill_us = refilled_at - now
  local wait_us = math.max(refill_us, state.closed_until - now)
  local max_wait_us = tonumber(string.match(request.max_wait_us, '^%d+')) or math.huge
  local is_spent = refill_us > NO_WAIT_US and dies_when_spent(request)
  if is_spent or wait_us > math.max(max_wait_us, NO_WAIT_US) then return {'over_budget', math.ceil(wait_us)} end
  return nil
end
