-- dead_page.lua: lists dead letters by what one needs to choose among them, without their tasks.
-- KEYS  dead
-- ARGV  skip: how many letters to pass over, from the oldest; max_letters; max_bytes: roughly how many bytes of letters are read, beyond
--       the last one
-- Returns for each letter: when it died in ms; the beginning of its header; the host and port of its URL, '' if there is none; its size
--       in bytes.
-- Guarantees: it changes nothing. What it replies does not grow with the size of the letters.
local dead = unpack(KEYS)
local skip, max_letters, max_bytes = unpack(ARGV)

-- A header begins with the names of the letter and with what went wrong.
local HEADER_BYTES = 1024
-- A larger task is not parsed: then the first "url" in it counts.
local PARSED_BYTES = 8192

-- The URL of the task that begins there in a letter. A large one is not copied, and its "url" is found without a pattern, which is slow.
local function url_of(letter, from)
  if #letter - from < PARSED_BYTES then
    local is_json, task = pcall(cjson.decode, string.sub(letter, from))
    return is_json and type(task) == 'table' and type(task.url) == 'string' and task.url or ''
  end
  local at = string.find(letter, '"url"', from, true)
  while at do
    local url = string.match(letter, '^"url"%s*:%s*"([^"\\]*)"', at)
    if url then return url end
    at = string.find(letter, '"url"', at + 1, true)
  end
  return ''
end

local function upstream_of(letter, from)
  local scheme, authority = string.match(url_of(letter, from), '^%s*(%a+)://([^/?#\\]*)')
  if not scheme then return '' end
  local host = string.lower(string.match(authority, '([^@]*)$'))
  if #host > 260 then return '' end
  if string.find(host, ':%d+$') then return host end
  return host .. (string.lower(scheme) == 'https' and ':443' or ':80')
end

local rows, bytes, rank = {}, 0, tonumber(skip)
while #rows / 4 < tonumber(max_letters) and bytes < tonumber(max_bytes) do
  local letter = redis.call('ZRANGE', dead, rank, rank, 'WITHSCORES')
  if #letter == 0 then break end
  local newline = string.find(letter[1], '\n', 1, true) or 1
  rows[#rows + 1] = letter[2]
  rows[#rows + 1] = string.sub(letter[1], 1, math.min(newline - 1, HEADER_BYTES))
  rows[#rows + 1] = upstream_of(letter[1], newline + 1)
  rows[#rows + 1] = #letter[1]
  bytes = bytes + #letter[1]
  rank = rank + 1
end
return rows
