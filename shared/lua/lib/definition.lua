-- lib/definition.lua: who defines a limit, and what becomes of its bucket when the definition changes. Pure. Needs lib/bucket and
-- lib/limit.
-- A definition by hand goes before that of the workers' configuration, and that before those of tasks. Of one source the newest counts.
-- Fields of a limit's hash:
--   set: the definition by hand
--   config, config_at: the workers' configuration, and since when, in ms, the newest worker that states it has stated it
--   config_until: the configuration ends then, by the limit's clock, unless a worker states it again
--   inline, inline_at: the definition of tasks, and when, in ms, the newest task that states it was first seen
--   in_force: the definition that full_at counts by

local DEFINITION_FIELDS = {'set', 'config', 'config_at', 'config_until', 'inline', 'inline_at', 'in_force'}

-- How long a configuration counts after a worker stated it: a few times as long as workers take to state it again.
local CONFIG_LIFETIME_US = 60000000

-- The values of DEFINITION_FIELDS, which follow the first `skip` values, by name; a field that is missing is nil.
local function definitions_of(values, skip)
  local definitions = {}
  for i, name in ipairs(DEFINITION_FIELDS) do definitions[name] = values[skip + i] or nil end
  return definitions
end

local function is_configured(definitions, now)
  return definitions.config and (tonumber(definitions.config_until) or 0) > now
end

-- The definition in force, as a table and as its text, and its source; or nil.
local function definition_in_force(definitions, now)
  local config = is_configured(definitions, now) and definitions.config or nil
  local source = definitions.set and 'set' or config and 'config' or definitions.inline and 'inline'
  local text = definitions.set or config or definitions.inline
  return parse_definition(text), text, source
end

-- States a definition on behalf of 'config' or 'inline' and updates `definitions`. A worker or a task that is older than the one whose
-- definition counts changes nothing, so two of them never take turns.
local function state_definition(definitions, source, text, stated_at_ms, now)
  local is_newer = tonumber(stated_at_ms) > (tonumber(definitions[source .. '_at']) or 0)
  if source == 'inline' and (is_newer or not definitions.inline) then
    definitions.inline, definitions.inline_at = text, stated_at_ms
  elseif source == 'config' then
    local is_over = not is_configured(definitions, now)
    if is_over or is_newer then definitions.config, definitions.config_at = text, stated_at_ms end
    -- Calls state it far more often than needed: it is extended once in a while.
    if definitions.config == text and (tonumber(definitions.config_until) or 0) < now + CONFIG_LIFETIME_US * 3 / 4 then
      definitions.config_until = to_text(now + CONFIG_LIFETIME_US)
    end
  end
end

-- When a bucket is full under another definition. What is left in it stays, as far as the new burst allows; a debt stays. Calls that were
-- granted for moments ahead find there what they took: until the last of them, the new definition is no faster than the old one.
local function carry_level(limit, old_limit, full_at, marks, now)
  if not (old_limit and old_limit.rate and limit.rate) then return full_at end
  local function full_if_carried(at)
    local missing = math.max(0, limit.burst - tokens_left(old_limit, full_at, at))
    return at + math.min(refill_time(limit, missing), MAX_REFILL_US)
  end
  local last = #marks > 0 and marks[#marks].at or now
  if last <= now or last >= full_at then return full_if_carried(now) end
  return math.max(full_if_carried(now), full_if_carried(last))
end

-- Marks (see lib/bucket) under another definition: no more may go back than would have fitted under both.
local function carry_marks(marks, limit, old_limit)
  local less_burst, carried = math.max(0, old_limit.burst - limit.burst), {}
  for i, mark in ipairs(marks) do
    local missing = math.max(0, mark.slack * old_limit.rate / old_limit.per_us - less_burst)
    carried[i] = {at = mark.at, slack = math.floor(missing * limit.per_us / limit.rate * 4) / 4}
  end
  return carried
end

-- When the bucket is full under the definition `text`, and its marks; full_at and marks may count by another definition.
local function carry_bucket(definitions, limit, text, full_at, marks, now)
  local counted_by = definitions.in_force
  if not counted_by or counted_by == text then return full_at, marks end
  local old_limit = parse_definition(counted_by)
  local carried = carry_level(limit, old_limit, full_at, marks, now)
  if not (old_limit and old_limit.rate and limit.rate) then return carried, parse_marks(no_more_to_give_back(now)) end
  return carried, note_grant(carry_marks(marks, limit, old_limit), carried, now)
end

-- Appends the fields of `definitions` that differ from what is stored, as HSET takes them.
local function add_changed_fields(changed, definitions, values, skip)
  for i, name in ipairs(DEFINITION_FIELDS) do
    if definitions[name] and definitions[name] ~= values[skip + i] then
      changed[#changed + 1] = name
      changed[#changed + 1] = definitions[name]
    end
  end
end
