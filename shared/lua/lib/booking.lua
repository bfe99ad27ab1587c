-- lib/booking.lua: decides whether a request is admitted, and for when it is booked otherwise. Pure. Needs lib/bucket, lib/limit and lib/budget.
-- state: {limit, now, full_at, closed_until, last_full_at, avg_call_us, next_slot_at; hold_us: how early a call may come that waits
--        the rest out in its worker; reserved, queued: turns; slots}
-- turns: {count: fairness keys that have a time in them; last: the last time of each, by key; changed: keys whose time was changed}
-- slots: {count: slots in use; held: whether a token has one; taken: the tokens that took one}
-- A reservation is not a permission but a place in time: it is checked against the bucket when its time has come. So whatever is
-- booked, and however late anyone comes, the bucket alone bounds what is admitted. Fairness is that of virtual-clock scheduling
-- (L. Zhang, "VirtualClock", 1990): each of n + 1 competing keys advances its own clock by (n + 1) times its cost.

-- A wait this short is waited out by the worker after it is admitted.
local SHORT_WAIT_US = 10000
-- Whoever comes later than this after its time, for example because the fleet was down, books again.
local LATE_US = 1000000

-- Books the next time at or after `at` for a fairness key; keys that have times in `turns` get equal shares. With `may_burst` a key
-- that has not used its share may have several times at once.
local function book(limit, turns, request, at, now, may_burst)
  local key, cost = request.fairness_key, request.cost
  local last = turns.last[key]
  if not last then turns.count = turns.count + 1 end
  last = last or 0
  at = math.max(may_burst and earliest(limit, last, now, cost) or last, at)
  turns.last[key] = full_at_after(limit, last, at, cost * turns.count)
  turns.changed[key] = true
  return at
end

-- Takes a concurrency slot for a token; one that it holds already counts once.
local function take_slot(limit, slots, token)
  if not limit.slots or slots.held[token] then return true end
  if slots.count >= limit.slots then return false end
  slots.count = slots.count + 1
  slots.held[token] = true
  slots.taken[#slots.taken + 1] = token
  return true
end

-- Decides on {fairness_key, cost, reservation, token, max_wait_us} and updates `state`. A reservation is 0 for none, a time, or a time negated for
-- a turn in the queue of those that came on time and found the rate used. Returns {'admitted', wait_us, holds_slot, admitted_at},
-- {'reserved', wait_us, reservation} or {'over_burst', burst}.
local function decide(state, request)
  local limit, now, cost = state.limit, state.now, request.cost
  local most = most_at_once(limit)
  if most and cost > most then return {'over_burst', to_text(most)} end
  local function reserved(at) return {'reserved', math.ceil(at - now), math.ceil(at)} end
  local function queued(at) return {'reserved', math.ceil(at - now), -math.ceil(at)} end

  local booked_at, is_queued = math.abs(request.reservation), request.reservation < 0
  local early_us = booked_at - now
  if early_us > SHORT_WAIT_US and early_us <= state.hold_us and state.closed_until <= booked_at then
    return {'reserved', math.ceil(early_us), request.reservation}
  end

  local at = math.max(earliest(limit, state.full_at, now, cost), state.closed_until)
  -- It takes what is there or goes (see lib/budget), and so has no times of its own.
  local has_no_times = dies_when_spent(request)
  local has_turn = request.reservation ~= 0 and early_us <= SHORT_WAIT_US and -early_us <= LATE_US
  if limit.rate and not has_turn and not has_no_times then
    at, is_queued = book(limit, state.reserved, request, at, now, true), false
    if at - now > SHORT_WAIT_US then return reserved(at) end
  end

  -- On time, but the rate is used, or others of the same key that came before still wait.
  local queue_is_ahead = not has_no_times and (state.queued.last[request.fairness_key] or 0) - now > SHORT_WAIT_US
  if at - now > SHORT_WAIT_US or limit.rate and not is_queued and queue_is_ahead then
    if limit.rate and not has_no_times then at = book(limit, state.queued, request, at, now, false) end
    return queued(at)
  end

  if not take_slot(limit, state.slots, request.token) then
    at = math.max(now + state.avg_call_us / 2, state.next_slot_at)
    state.next_slot_at = at + state.avg_call_us / limit.slots
    return queued(at)
  end
  if state.full_at <= at then state.last_full_at = at end
  state.full_at = full_at_after(limit, state.full_at, at, cost)
  return {'admitted', math.ceil(at - now), limit.slots and 1 or 0, to_text(at)}
end
