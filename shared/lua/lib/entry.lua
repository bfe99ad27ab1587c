-- lib/entry.lua: the stored form of a task that was claimed at least once.
-- An entry is "<serial> <first_seen_ms> <crashes> <started> <state>\n<the producer's bytes>". Scripts read only the header; they
-- never decode the bytes behind the newline.

-- The header and the producer's bytes. Without a newline it is not an entry: no header, all bytes.
local function split_entry(entry)
  local newline = string.find(entry, '\n', 1, true)
  if not newline then return '', entry end
  return string.sub(entry, 1, newline - 1), string.sub(entry, newline + 1)
end
