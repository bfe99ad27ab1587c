-- lib/budget.lua: whether a call would have to wait longer for a limit than it is willing to. Pure. Needs lib/bucket and lib/limit.
-- A call states its bound as text: '' for none, '<us>' for the longest wait whatever the reason, 'spent' if it does not wait for a
-- bucket that does not have enough, or both: '<us> spent'.

-- Decides on {cost, max_wait_us, returned_at} before anything is taken: {'over_budget', wait_us}, or nil if the call may ask. `state` is that of
-- lib/grant: whatever that would grant is not waited for.
local function over_budget(state, request)
  -- One that has a grant and only asks for a later moment is not turned away.
  if request.max_wait_us == '' or request.returned_at then return nil end
  local limit, now, cost = state.limit, state.now, request.cost
  local most = most_at_once(limit)
  if most and cost > most then return nil end
  local refill_us = earliest(limit, state.full_at, now, cost) - now
  local wait_us = math.max(refill_us, state.closed_until - now)
  local no_wait_us = state.lead_us + state.window_us
  local max_wait_us = tonumber(string.match(request.max_wait_us, '^%d+')) or math.huge
  local is_spent = refill_us > no_wait_us and string.find(request.max_wait_us, 'spent', 1, true)
  if is_spent or wait_us > math.max(max_wait_us, no_wait_us) then return {'over_budget', math.ceil(wait_us)} end
  return nil
end
