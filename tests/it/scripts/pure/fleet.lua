-- A fleet of workers against one limit, simulated from a seed: distances, lost replies, crashes, late calls, refunds, usage that differs
-- from its estimate, clocks of Redis that step, and definitions that change. Needs the pure functions of the limits. Times are in us.
-- input: {first_seed, seeds}. Returns for each seed that breaks a promise what it broke, and how many calls were made.

local DURATION, PATIENCE, SLOT_LEASE = 2.5e6, 25000, 2e6
local START = 1.8e15

local function generator(seed)
  local state = seed * 2654435761 % 4294967296
  return function(least, most)
    state = (state * 1664525 + 1013904223) % 4294967296
    return least + math.floor(state / 4294967296 * (most - least + 1))
  end
end

-- Events in the order of their times; of one time, in the order in which they were added.
local function agenda()
  local heap, added = {}, 0
  local function before(one, other) return one.at < other.at or one.at == other.at and one.nth < other.nth end
  local function add(at, act)
    added = added + 1
    local i = #heap + 1
    heap[i] = {at = at, nth = added, act = act}
    while i > 1 and before(heap[i], heap[math.floor(i / 2)]) do
      local parent = math.floor(i / 2)
      heap[i], heap[parent] = heap[parent], heap[i]
      i = parent
    end
  end
  local function next_event()
    local first, last = heap[1], table.remove(heap)
    if #heap == 0 then return first end
    heap[1] = last
    local i = 1
    while true do
      local least = i
      if heap[2 * i] and before(heap[2 * i], heap[least]) then least = 2 * i end
      if heap[2 * i + 1] and before(heap[2 * i + 1], heap[least]) then least = 2 * i + 1 end
      if least == i then return first end
      heap[i], heap[least] = heap[least], heap[i]
      i = least
    end
  end
  return add, next_event
end

local function simulate(seed)
  local random = generator(seed)
  local function chance(percent) return random(1, 100) <= percent end
  local is_calm = seed % 4 == 0
  local rates, bursts, slot_count = {}, {}, not is_calm and chance(30) and random(1, 5) or nil
  local function define()
    local rate, burst = random(5, 60), random(1, 12)
    rates[#rates + 1], bursts[#bursts + 1] = rate, burst
    return rate .. ' 1000 ' .. burst .. ' ' .. (slot_count or '-')
  end
  local broken, used, most_late = nil, {}, 0

  -- The limit as Redis keeps it, and its clock.
  local clock_error, last_now, skew = 0, nil, 0
  local definitions = {inline = define(), inline_at = 1}
  local full_at, marks, closed_until, leases, in_flight = 0, {}, 0, {}, 0
  local function limit_now(at)
    last_now, skew = monotonic(START + at + clock_error, last_now, skew)
    return last_now
  end
  local function state_at(at)
    local now = limit_now(at)
    local limit, text = definition_in_force(definitions, now)
    full_at, marks = carry_bucket(definitions, limit, text, full_at, marks, now)
    definitions.in_force = text
    local slots = {count = 0, held = {}, taken = {}}
    for token, until_at in pairs(leases) do
      if until_at <= at then leases[token] = nil else slots.count, slots.held[token] = slots.count + 1, true end
    end
    return {limit = limit, now = now, full_at = full_at, marks = marks, closed_until = closed_until, slots = slots}
  end
  local function decide_at(at, worker, request)
    local state = state_at(at)
    state.lead_us, state.window_us, state.is_waiting = worker.lead, worker.window, false
    local grant = decide(state, request)
    full_at, marks = state.full_at, state.marks
    for _, token in ipairs(state.slots.taken) do leases[token] = at + SLOT_LEASE end
    return grant, state.now
  end
  -- What adjust.lua does with a charge.
  local function charge(at, cost, granted_at)
    local state = state_at(at)
    if cost > 0 then
      marks = note_grant(marks, full_at, state.now)
      full_at = full_at_after(state.limit, full_at, state.now, cost)
    else
      full_at = give_back(marks, full_at, granted_at, refund_time(state.limit, -cost))
    end
  end

  local add, next_event = agenda()
  local serial = 0
  local ask
  -- The worker's clock is the true time; what it knows of the limit's clock is from the reply with the shortest way.
  local function learn(worker, sent, received, now)
    local way = received - sent
    if not worker.way or way <= worker.way or chance(5) then worker.way, worker.offset = way, now - (sent + way / 2) end
  end
  local function finish(worker, at, token, granted)
    add(at + random(1000, 200000), function(ended)
      in_flight = in_flight - 1
      leases[token] = nil
      -- Usage that differs from the estimate: what is charged in addition counts for no window, so it may only delay others.
      if not is_calm and chance(30) then charge(ended + worker.way_back, random(0, 3), granted) end
      ask(worker, ended, nil)
    end)
  end
  local function call(worker, at, token, granted, round)
    if worker.died_at and worker.died_at <= at then return end
    if not is_calm and chance(10) then at = at + random(0, 120000) end
    local late = at - (granted - worker.offset)
    if granted > 0 and late > PATIENCE * 2 ^ round then return ask(worker, at, {at = granted, token = token, round = round + 1}) end
    if not is_calm and chance(5) then
      add(at + worker.way_back, function(there)
        charge(there, -1, granted)
        leases[token] = nil
      end)
      return ask(worker, at, nil)
    end
    most_late = math.max(most_late, late)
    in_flight = in_flight + 1
    if slot_count and in_flight > slot_count then broken = in_flight .. ' calls in ' .. slot_count .. ' slots' end
    used[#used + 1] = granted
    finish(worker, at, token, granted)
  end
  ask = function(worker, at, earlier)
    if at > DURATION or worker.died_at and worker.died_at <= at then return end
    serial = serial + 1
    local token = earlier and earlier.token or 't' .. serial
    local way_there = worker.distance + (is_calm and 0 or random(0, 8000))
    local way_back = worker.distance + (is_calm and 0 or random(0, 8000))
    worker.way_back = way_back
    add(at + way_there, function(there)
      local grant, now = decide_at(there, worker, {
        cost = 1, token = token, has_priority = true, delay_us = earlier and worker.lead or 0, returned_at = earlier and earlier.at,
      })
      if not is_calm and chance(3) then
        -- The reply is lost: it is asked again, for all the worker knows.
        return add(there + 300000, function(later) ask(worker, later, nil) end)
      end
      add(there + way_back, function(received)
        learn(worker, at, received, now)
        if grant[1] == 'waiting' then
          local wait = grant[2] > 0 and math.max(0, grant[2] - 2 * worker.distance - worker.lead) or random(20000, 60000)
          return add(received + wait, function(later) ask(worker, later, nil) end)
        end
        local granted = tonumber(grant[2])
        local due = math.max(received, granted - worker.offset)
        if is_calm then ask(worker, received, nil) end
        add(due, function(then_at) call(worker, then_at, token, granted, earlier and earlier.round or 0) end)
      end)
    end)
  end

  for n = 1, random(1, 8) do
    local distance = chance(40) and random(0, 500) or random(0, 150000)
    local worker = {distance = distance, lead = math.ceil(3.2 * distance) + 1000, window = random(60000, 500000) + math.ceil(4.6 * distance), way_back = distance, offset = 0}
    if not is_calm and chance(25) then worker.died_at = random(0, DURATION) end
    for _ = 1, is_calm and 1 or random(1, 4) do add(n, function(at) ask(worker, at, nil) end) end
  end
  if not is_calm then
    for _ = 1, random(0, 2) do add(random(0, DURATION), function() clock_error = clock_error + random(-3e6, 3e6) end) end
    for n = 1, random(0, 3) do
      add(random(0, DURATION), function(at)
        state_at(at)
        state_definition(definitions, 'inline', define(), tostring(1 + n), limit_now(at))
      end)
    end
  end
  while true do
    local event = next_event()
    if not event or broken then break end
    event.act(event.at)
  end

  -- What was used must fit into one bucket of the largest rate and burst that were ever in force.
  local rate, burst = math.max(unpack(rates)), math.max(unpack(bursts))
  table.sort(used)
  local level, last = burst, used[1]
  for _, at in ipairs(used) do
    level = math.min(burst, level + (at - last) * rate / 1e6) - 1
    last = at
    if level < -1e-3 then broken = string.format('%.3f calls too many at %d us', -level, at - used[1]) end
  end
  if is_calm and most_late > 1000 then broken = 'a call was ' .. most_late .. ' us late although nothing delayed it' end
  return broken, #used
end

local failures, calls = {}, 0
for seed = input.first_seed, input.first_seed + input.seeds - 1 do
  local broken, made = simulate(seed)
  calls = calls + made
  if broken then failures[#failures + 1] = seed .. ': ' .. broken end
end
return {failures = failures, calls = calls}
