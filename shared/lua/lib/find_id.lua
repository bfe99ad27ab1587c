-- lib/find_id.lua: recognizes a task by its id without decoding what cannot be it.

-- Whether the bytes may have this id: they contain it as JSON writes it, or a value of a field `id` that is spelled with escapes.
local function may_have_id(raw, json_id)
  if string.find(raw, json_id, 1, true) then return true end
  local at = string.find(raw, '"id"', 1, true)
  for _ = 1, 8 do
    if not at then return false end
    if string.find(raw, '^"id"%s*:%s*"[^"\\]*\\', at) then return true end
    at = string.find(raw, '"id"', at + 4, true)
  end
  return true
end
