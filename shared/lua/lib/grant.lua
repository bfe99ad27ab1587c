-- lib/grant.lua: decides when a call may go. Pure. Needs lib/bucket and lib/limit.
-- state: {limit, now, full_at, marks, closed_until; lead_us: how soon a grant can be used; window_us: how far beyond that it may
--        lie; is_waiting: others wait for this limit; slots}
-- slots: {count: slots in use; held: whether a token has one; taken: the tokens that took one; returned: those that gave one back}
-- A grant is final and names the moment of its call, which may lie ahead. The bucket is charged as of that moment, so grants may be
-- made in any order of their moments: of those in any window, the one decided last was decided with all the others in the bucket, and
-- so together they take no more than the burst and what is refilled within the window.

-- Takes a concurrency slot for a token; one that it holds already counts once.
local function take_slot(limit, slots, token)
  if not limit.slots or slots.held[token] then return true end
  if slots.count >= limit.slots then return false end
  slots.count = slots.count + 1
  slots.held[token] = true
  slots.taken[#slots.taken + 1] = token
  return true
end

-- Decides on {cost, token; has_priority: it goes before those that wait; window_us: instead of that of the state; delay_us: the earliest moment it can use, from now;
-- returned_at: the moment of a grant that it gives back, or nil} and updates `state`. Returns {'granted', moment (0: at once), holds_slot},
-- {'waiting', us until it may go if the rate is why, else 0} or {'over_burst', burst}.
local function decide(state, request)
  local limit, cost = state.limit, request.cost
  if request.returned_at then
    state.full_at = give_back(state.marks, state.full_at, request.returned_at, refill_time(limit, cost))
  end
  local most = most_at_once(limit)
  if most and cost > most then return {'over_burst', to_text(most)} end
  if state.is_waiting and not request.has_priority then return {'waiting', 0} end

  local from = state.now + math.max(state.lead_us, request.delay_us)
  -- Without a rate, every moment is as good.
  if not limit.rate then from = state.now end
  local at = math.max(earliest(limit, state.full_at, from, cost), state.closed_until)
  if at - from > (request.window_us or state.window_us) then
    state.is_waiting = true
    return {'waiting', math.ceil(at - state.now)}
  end
  if not take_slot(limit, state.slots, request.token) then
    state.is_waiting = true
    return {'waiting', 0}
  end
  if limit.rate then
    state.marks = note_grant(state.marks, state.full_at, at)
    state.full_at = full_at_after(limit, state.full_at, at, cost)
  end
  local is_timed = limit.rate or state.closed_until > state.now
  return {'granted', is_timed and to_text(at) or '0', limit.slots and 1 or 0}
end
