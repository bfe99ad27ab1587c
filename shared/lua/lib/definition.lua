-- lib/definition.lua: who defines a limit, and what becomes of its bucket when the definition changes. Pure. Needs lib/bucket and
-- lib/limit.
-- A definition by hand goes before that of the workers' configuration, and that before those of tasks. Of one source the newest counts.
-- Fields of a limit's hash:
--   set: the definition by hand
--   config, config_at: the workers' configuration, and since when, in ms, the newest worker that states it has stated it
--   config_until: the configuration ends then, by the limit's clock, unless a worker states it again
--   inline, inline_at: the definition of tasks, and when, in ms, the newest task that states it was first seen
--   in_force: the definition that full_at counts by
--   woken_at: when the calls that wait were last told of another inline definition

local DEFINITION_FIELDS =
  {'set', 'config', 'config_at', 'config_until', 'inline', 'inline_at', 'in_force', 'woken_at'}

-- How long a configuration counts after a worker stated it: a few times as long as workers take to state it again.
local CONFIG_LIFETIME_US = 60000000
-- A definition of tasks that changes more often than this wakes no one.
local WAKE_INTERVAL_US = 10000000

-- The values of DEFINITION_FIELDS by name; a field that is missing is nil.
local function definitions_of(values)
  local definitions = {}
  for i, name in ipairs(DEFINITION_FIELDS) do definitions[name] = values[i] or nil end
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

-- When a bucket is full under another definition. What is left in it stays, as far as the new burst allows; a debt stays.
local function carry_level(limit, old_limit, full_at, now)
  if not (old_limit and old_limit.rate and limit.rate) then return full_at end
  local missing = math.max(0, limit.burst - tokens_left(old_limit, full_at, now))
  return now + math.min(refill_time(limit, missing), MAX_REFILL_US)
end

-- When the bucket is full under the definition `text`, which may not be the one that full_at counts by.
local function full_at_under(definitions, limit, text, full_at, now)
  local counted_by = definitions.in_force
  if not counted_by or counted_by == text then return full_at end
  return carry_level(limit, parse_definition(counted_by), full_at, now)
end

-- Whether calls that wait should learn now, and not when their time comes, that `text` is in force: whatever operators change, and of
-- tasks only what admits much more, and not often. Tasks that define the limit in different ways must not make everyone ask again.
local function should_wake(definitions, limit, text, source, now)
  local old_limit = parse_definition(definitions.in_force)
  if not old_limit or definitions.in_force == text then return false end
  if source ~= 'inline' then return true end
  local function rate(of) return of.rate and of.rate / of.per_us or math.huge end
  local function slots(of) return of.slots or math.huge end
  local function is_much_more(new, old) return new ~= old and new >= 2 * old end
  return (is_much_more(rate(limit), rate(old_limit)) or is_much_more(slots(limit), slots(old_limit)))
    and now - (tonumber(definitions.woken_at) or 0) >= WAKE_INTERVAL_US
end

-- The fields of `definitions` that differ from what is stored, as HSET takes them.
local function changed_fields(definitions, values)
  local changed = {}
  for i, name in ipairs(DEFINITION_FIELDS) do
    if definitions[name] and definitions[name] ~= values[i] then
      changed[#changed + 1] = name
      changed[#changed + 1] = definitions[name]
    end
  end
  return changed
end
