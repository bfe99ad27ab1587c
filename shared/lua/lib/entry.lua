-- lib/entry.lua: what Redial keeps of a task beyond the producer's bytes. Prepended to every script that opens an entry.
-- An entry is "<serial> <first_seen_ms> <crashes> <begun> <state>\n<the producer's bytes>". Only the header is ever
-- taken apart; the bytes behind the newline are never decoded. What has no newline is no entry of ours: all bytes, no header.
local function split(entry)
  local newline = string.find(entry, '\n', 1, true)
  if not newline then return '', entry end
  return string.sub(entry, 1, newline - 1), string.sub(entry, newline + 1)
end
