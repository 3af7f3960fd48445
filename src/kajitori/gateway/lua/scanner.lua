-- Finds the members of a JSON object without decoding it: where each top-level key and value stands in the
-- text. Steps are bytes and searches for plain text, which LuaJIT compiles; patterns it does not. Nested text is only skipped (strings as strings, brackets in pairs), so a key of the same name further
-- down is never taken for the real one, and a 32 MiB prompt costs a search for its closing quote.
local find, sub, byte = string.find, string.sub, string.byte
local DEEPEST = 512
-- Strings and brackets in one text. More would hold up everybody else whom this thread serves.
local MOST_PIECES = 5000000
local pieces = 0
-- Names of members that are longer are nobody's that is looked for.
local LONGEST_KEY_READ = 4096

-- Position of the closing quote of the string whose first character is at `at`, or nil.
local function string_end(text, at)
  while true do
    local place = find(text, '"', at, true)
    if not place then return nil end
    if byte(text, place - 1) ~= 92 then return place end
    -- A quote behind an odd number of backslashes is part of the string. The opening quote ends the count.
    local slash = place - 2
    while byte(text, slash) == 92 do slash = slash - 1 end
    if (place - slash) % 2 == 1 then return place end
    at = place + 1
  end
end

-- Position of the first byte from `at` on that is no white space, or nil.
local function skip_space(text, at)
  local char = byte(text, at)
  while char == 32 or char == 10 or char == 13 or char == 9 do
    at = at + 1
    char = byte(text, at)
  end
  return char and at
end

local LITERALS = { ['true'] = true, ['false'] = true, ['null'] = true }

-- What closes each bracket that is open, by depth; for one text at a time, since nobody waits within one.
local open = {}

-- Position of the last byte of the value that starts at `at`, or nil if that is no value.
local function value_end(text, at)
  local first = byte(text, at)
  if first == 34 then return string_end(text, at + 1) end
  if first == 123 or first == 91 then
    local depth, place = 0, at
    while true do
      local char = byte(text, place)
      if char == 34 then
        pieces = pieces + 1
        place = string_end(text, place + 1)
        if not place then return nil end
      elseif char == 123 or char == 91 then
        depth, pieces = depth + 1, pieces + 1
        if depth > DEEPEST or pieces > MOST_PIECES then return nil end
        open[depth] = char + 2
      elseif char == 125 or char == 93 then
        if open[depth] ~= char then return nil end
        depth = depth - 1
        if depth == 0 then return place end
      elseif not char then
        return nil
      end
      place = place + 1
    end
  end
  local _, last = find(text, '^[%w+.-]+', at)
  if not last then return nil end
  local literal = sub(text, at, last)
  if LITERALS[literal] then return last end
  local _, whole = find(literal, '^-?%d+')
  if not whole or find(literal, '^-?0%d') then return nil end
  local rest = sub(literal, whole + 1)
  if rest == '' or find(rest, '^%.%d+$') or find(rest, '^%.%d+[eE][+-]?%d+$') or find(rest, '^[eE][+-]?%d+$') then
    return last
  end
  return nil
end

local function utf8_bytes(code)
  if code < 0x80 then return string.char(code) end
  if code < 0x800 then return string.char(0xC0 + math.floor(code / 64), 0x80 + code % 64) end
  if code < 0x10000 then
    return string.char(0xE0 + math.floor(code / 4096), 0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
  end
  return string.char(0xF0 + math.floor(code / 262144), 0x80 + math.floor(code / 4096) % 64,
    0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
end

local ESCAPES = { ['"'] = '"', ['\\'] = '\\', ['/'] = '/', b = '\b', f = '\f', n = '\n', r = '\r', t = '\t' }

-- The text that a JSON string (without its quotes) stands for.
local function unescape(raw)
  if not find(raw, '\\', 1, true) then return raw end
  local out, at = {}, 1
  while true do
    local place = find(raw, '\\', at, true)
    if not place then break end
    out[#out + 1] = sub(raw, at, place - 1)
    local char = sub(raw, place + 1, place + 1)
    at = place + 2
    if char == 'u' then
      local code = tonumber(string.match(raw, '^%x%x%x%x', at) or 'FFFD', 16)
      at = at + 4
      local low = code >= 0xD800 and code <= 0xDBFF and string.match(raw, '^\\u([dD][c-fC-F]%x%x)', at)
      if low then
        code = 0x10000 + (code - 0xD800) * 0x400 + tonumber(low, 16) - 0xDC00
        at = at + 6
      elseif code >= 0xD800 and code <= 0xDFFF then
        code = 0xFFFD  -- half of a pair stands for nothing
      end
      out[#out + 1] = utf8_bytes(code)
    else
      out[#out + 1] = ESCAPES[char] or char
    end
  end
  out[#out + 1] = sub(raw, at)
  return table.concat(out)
end

-- Calls `visit(key, key_start, value_start, value_end)` for each member of the object at the top of `text`.
-- Returns the position of the closing brace, or nil and what is wrong with the text.
local function members(text, visit)
  pieces = 0
  local at = skip_space(text, 1)
  if not at or byte(text, at) ~= 123 then return nil, 'the body is not a JSON object' end
  at = skip_space(text, at + 1)
  local close = nil
  if at and byte(text, at) == 125 then close = at end
  while not close do
    if not at or byte(text, at) ~= 34 then return nil, 'a member name in quotes is missing' end
    local key_start = at
    local key_last = string_end(text, at + 1)
    if not key_last then return nil, 'a string does not end' end
    at = skip_space(text, key_last + 1)
    if not at or byte(text, at) ~= 58 then return nil, 'a colon is missing after a member name' end
    at = skip_space(text, at + 1)
    pieces = pieces + 2
    local last = at and pieces <= MOST_PIECES and value_end(text, at)
    if not last then
      if pieces > MOST_PIECES then return nil, 'it has more than 5 million strings and brackets' end
      return nil, 'a value is malformed, does not end, or is nested too deeply'
    end
    local key = sub(text, key_start + 1, key_last - 1)
    if #key <= LONGEST_KEY_READ then key = unescape(key) end
    visit(key, key_start, at, last)
    at = skip_space(text, last + 1)
    local char = at and byte(text, at)
    if char == 125 then
      close = at
    elseif char == 44 then
      at = skip_space(text, at + 1)
    else
      return nil, 'a comma or a closing brace is missing'
    end
  end
  if skip_space(text, close + 1) then return nil, 'something follows the JSON object' end
  return close
end

-- `text` as a JSON string, quotes included.
local function quote(text)
  return '"' .. text:gsub('[%c"\\]', function(char)
    return string.format('\\u%04x', byte(char))
  end) .. '"'
end
