-- Reads what an answer says of the tokens it took, as it passes: nothing is held back but the usage event that the
-- client of a stream did not ask for, which is taken out. What is kept of an answer is bounded.
local MOST_KEPT = 65536
local LONGEST_HELD = 16384
local EVENTS_A_MARK = 16
local MOST_CANDIDATES = 4
local LONGEST_ANSWERED_MODEL = 128
local CHUNKS_WITH_MODEL = 3

-- Whether the brackets of `text` from `at` on close as many levels as `depth` and no more.
local function closes(text, at, depth)
  local open = 0
  while true do
    local char = byte(text, at)
    if not char then return open == -depth end
    if char == 34 then
      at = string_end(text, at + 1)
      if not at then return false end
    elseif char == 123 or char == 91 then
      open = open + 1
    elseif char == 125 or char == 93 then
      open = open - 1
    end
    at = at + 1
  end
end

-- The object that is the member `name` of the object at the end of `text`, or of its member `within`: where it starts
-- and ends. What a model or a client wrote may have members of that name too, further down; they are passed over.
local function object_of(text, name, depth)
  local needle, places, at = '"' .. name .. '"', {}, 1
  while true do
    local place, last = find(text, needle, at, true)
    if not place then break end
    local _, opens = find(text, '^%s*:%s*{', last + 1)
    if opens then places[#places + 1] = opens end
    at = last + 1
  end
  for number = #places, math.max(1, #places - MOST_CANDIDATES + 1), -1 do
    pieces = 0
    local last = value_end(text, places[number])
    if last and closes(text, last + 1, depth) then return sub(text, places[number], last) end
  end
  return nil
end

-- Names of counts, in any dialect, and what they count.
local COUNTS = { prompt_tokens = 'input', input_tokens = 'input', completion_tokens = 'output', output_tokens = 'output',
  total_tokens = 'total', cached_tokens = 'cached', reasoning_tokens = 'reasoning', cache_read_input_tokens = 'read',
  cache_creation_input_tokens = 'creation', cache_creation_tokens = 'creation' }
local SECOND_CHOICE = { input_tokens = 'prompt_tokens', output_tokens = 'completion_tokens',
  cache_creation_tokens = 'cache_creation_input_tokens' }

-- Takes over the counts of a usage object, in any dialect. What it does not name stays as it was.
-- Anthropic counts what went through its cache beside the input; here it is a part of it, as everywhere else.
local function take_counts(counts, object)
  local seen = {}
  -- One walk over all numbers: a search for each name costs three times as much.
  for name, digits in string.gmatch(object, '"([%l_]+)"%s*:%s*(%d+)') do
    local count = COUNTS[name]
    if count and not seen[name] then
      seen[name] = true
      local better = SECOND_CHOICE[name]
      if not (better and seen[better]) then counts[count] = math.min(tonumber(digits), 1e12) end
    end
  end
  return counts.input or counts.output or counts.total
end

-- Counts as text, in the order of `Usage`.
local function told_counts(counts, dialect)
  local input, cached = counts.input or 0, counts.cached or 0
  if dialect == 'anthropic' then
    input = input + (counts.read or 0) + (counts.creation or 0)
    cached = counts.read or cached
  end
  local output = counts.output or 0
  local total = counts.total or input + output
  if not counts.input and not counts.output then input = total end
  return string.format('%.0f,%.0f,%.0f,%.0f,%.0f,%.0f', input, output, total, cached, counts.creation or 0,
    counts.reasoning or 0)
end

local MODEL_MEMBER = '"model"%s*:%s*"([^"\\%c]*)"'
-- The model that an answer names as its author, or nil. It stands in front, or behind what is long.
local function answered_model(text)
  local place, last = find(text, '"model"', 1, true)
  local model = place and place <= 2048 and string.match(text, '^%s*:%s*"([^"\\%c]*)"', last + 1)
  if place and not model then
    model = string.match(sub(text, 1, 2048), MODEL_MEMBER) or string.match(sub(text, -512), MODEL_MEMBER)
  end
  return model and #model <= LONGEST_ANSWERED_MODEL and model or nil
end

local function tell(handle, told, model)
  if model then told = told .. ';' .. model end
  handle:streamInfo():dynamicMetadata():set(METADATA, 'usage', told)
end

-- The usage object of a JSON answer or of the data of an event; its members show which it is.
local function usage_object(text)
  local object = object_of(text, 'usage', 1)
  if object then return object end
  if find(text, '"usage"', 1, true) then
    -- `response.completed` of Responses, `message_start` of Anthropic.
    if find(text, '"response"', 1, true) or find(text, '"message"', 1, true) then
      return object_of(text, 'usage', 2)
    end
    return nil
  end
  return object_of(text, 'tokens', 2) or object_of(text, 'billed_units', 2)  -- `meta` of Cohere
end

local function read_json_answer(handle, facts)
  local head, tail = '', ''
  for chunk in handle:bodyChunks() do
    local size = chunk:length()
    if size > 0 then
      if head == '' then
        head = chunk:getBytes(0, math.min(size, MOST_KEPT))
        tail = size <= MOST_KEPT and head or chunk:getBytes(size - MOST_KEPT, MOST_KEPT)
      elseif size >= MOST_KEPT then
        tail = chunk:getBytes(size - MOST_KEPT, MOST_KEPT)
      else
        tail = tail .. chunk:getBytes(0, size)
        if #tail > 2 * MOST_KEPT then tail = sub(tail, -MOST_KEPT) end
      end
    end
  end
  local object = usage_object(tail)
  if not object and head ~= tail then
    -- Usage that stands before the content of a long answer: the members are seen until one is cut.
    members(head, function(key, _, from, to)
      if key == 'usage' then object = sub(head, from, to) end
    end)
  end
  local counts = {}
  if object and take_counts(counts, object) then
    tell(handle, told_counts(counts, facts.dialect), answered_model(head) or answered_model(tail))
  end
end

-- Whether a usage object begins in `text`; many providers put `"usage":null` into every other event.
local function has_usage(text)
  local _, last = find(text, '"usage"', 1, true)
  while last do
    if find(text, '^%s*:%s*{', last + 1) then return true end
    _, last = find(text, '"usage"', last + 1, true)
  end
  return false
end

-- True for a whole event that carries usage and nothing else.
local function only_usage(event)
  return find(event, '"choices"%s*:%s*%[%s*%]') and find(event, '"usage"%s*:%s*{') and true or false
end

-- How often `needle` stands in `text`.
local function occurrences(text, needle)
  local found, at = 0, 1
  while true do
    local _, last = find(text, needle, at, true)
    if not last then return found end
    found, at = found + 1, last + 1
  end
end

-- What is known of a stream so far; `take` reads a whole event.
local function take_event(state, event)
  if not has_usage(event) then return end
  local object = usage_object(event)
  if not object or not take_counts(state.counts, object) then return end
  if state.sums then  -- each answer of a session has its own
    for name, value in pairs(state.counts) do state.sums[name] = (state.sums[name] or 0) + value end
    state.counts = {}
  end
  -- What Anthropic says at the start is the input; the output follows with the last events.
  local told = told_counts(state.sums or state.counts, state.dialect)
  if find(event, '"message_start"', 1, true) then
    state.started = ',' .. told
  else
    state.final = true
    tell(state.handle, told, state.model)
  end
end

-- What is known of a stream that may be cut at any time.
local function tell_seen(state)
  tell(state.handle, string.format('~%d%s', math.max(state.events - state.empty, 0), state.started),
    state.model)
end

-- Says how much came, every few events: a stream that is cut runs no more of this script.
local function mark_events(state, text)
  state.events = state.events + occurrences(text, state.needle)
  if state.events >= state.next_mark and not state.final then
    tell_seen(state)
    state.next_mark = state.events + EVENTS_A_MARK
  end
end

-- Begins with an event that is not whole and passes as it comes; its end is looked at when that comes.
local function begin_event(state, text)
  state.parts, state.size, state.tail = { text }, #text, sub(text, -3)
end

-- Goes on with it. Returns how many bytes of `text` belong to it, or nil if all do and it is not whole yet.
local function continue_event(state, text)
  local probe = state.tail .. text
  local _, last = find(probe, '\r?\n\r?\n')
  local mine = last and last - #state.tail
  local parts = state.parts
  parts[#parts + 1] = mine and sub(text, 1, mine) or text
  if mine then
    state.parts = nil
    take_event(state, table.concat(parts))
    return mine
  end
  state.tail = sub(probe, -3)
  state.size = state.size + #text
  if state.size > 2 * MOST_KEPT then
    -- The beginning says what kind of event it is, the end has the usage.
    local whole = table.concat(parts)
    state.parts = { sub(whole, 1, 256), sub(whole, -MOST_KEPT) }
    state.size = MOST_KEPT + 256
  end
  return nil
end

-- Takes whole events out of `text`. Returns what is to go on and the event at its end that is not whole.
local function split_events(state, text, strip)
  local out, at = {}, 1
  if state.parts then
    local mine = continue_event(state, text)
    if not mine then return text, '' end
    out[1], at = sub(text, 1, mine), mine + 1
  end
  while true do
    local _, last = find(text, '\r?\n\r?\n', at)
    if not last then break end
    local event = sub(text, at, last)
    take_event(state, event)
    if not (strip and only_usage(event)) then out[#out + 1] = event end
    at = last + 1
  end
  return table.concat(out), sub(text, at)
end

local function read_stream(handle, facts)
  local strip = facts.strip ~= nil
  local state = { handle = handle, dialect = facts.dialect, needle = facts.event, counts = {}, events = 0,
    next_mark = 1, looked = 0, started = '', empty = facts.event == '\n\n' and 1 or 0 }
  local kept = ''
  for chunk in handle:bodyChunks() do
    local size = chunk:length()
    if size > 0 then
      local text = chunk:getBytes(0, size)
      if not state.model and state.looked < CHUNKS_WITH_MODEL then
        state.model, state.looked = answered_model(text), state.looked + 1
      end
      mark_events(state, text)
      -- Most chunks are whole events without usage: they pass untouched.
      if kept ~= '' or state.parts or has_usage(text) or byte(text, size) ~= 10 or byte(text, size - 1) ~= 10 then
        local go_on, rest = split_events(state, kept .. text, strip)
        kept = ''
        if strip and #rest <= LONGEST_HELD and not find(rest, '^data: ?%[') then
          kept = rest  -- it may be the usage event
        elseif rest ~= '' then
          begin_event(state, rest)
          go_on = go_on .. rest
        end
        if strip then chunk:setBytes(go_on) end
      end
    elseif kept ~= '' then
      chunk:setBytes(kept)  -- the stream ends within an event
      take_event(state, kept)
      kept = ''
    end
  end
  if state.parts then take_event(state, table.concat(state.parts)) end
  if not state.final and state.events > 0 then tell_seen(state) end
end

-- Reads the events of a session over a WebSocket, which come as unmasked text from the provider.
local function read_session(handle, facts)
  local state = { handle = handle, dialect = facts.dialect, counts = {}, sums = {} }
  local kept = ''
  for chunk in handle:bodyChunks() do
    local size = chunk:length()
    if size > 0 then
      local text = kept .. chunk:getBytes(0, size)
      kept = ''
      local place = find(text, '"response.done"', 1, true)
      while place do
        local opens = find(text, '{[^{}"]*"type"%s*:%s*"response.done"', math.max(1, place - 64))
          or find(text, '{[^{}]*"response.done"', math.max(1, place - 256))
        pieces = 0
        local last = opens and value_end(text, opens)
        if not last then
          kept = sub(text, opens or place, (opens or place) + 4 * MOST_KEPT)
          break
        end
        take_event(state, sub(text, opens, last))
        place = find(text, '"response.done"', last, true)
      end
    end
  end
end

-- The mark of an event of each operation whose answers tell usage.
local EVENTS = {}
for _, operation in pairs(OPERATIONS) do
  if operation.usage then EVENTS[operation.dialect .. '/' .. operation.name] = operation.event end
end

function envoy_on_response(handle)
  local facts = kept_facts(handle)
  if not facts then return end
  local headers = handle:headers()
  local status = headers:get(':status')
  if status == '101' and facts.operation ~= 'realtime' then
    -- What follows would be no HTTP. Envoy answers by itself in place of what has no status; see local_replies.py.
    return headers:remove(':status')
  end
  facts.event = EVENTS[facts.dialect .. '/' .. facts.operation]
  if not facts.event and not facts.strip then return end
  if status == '101' then return read_session(handle, facts) end
  if byte(status) ~= 50 then return end
  local kind = headers:get('content-type')
  if not kind or headers:get('content-encoding') then return end
  if find(kind, 'text/event-stream', 1, true) then return read_stream(handle, facts) end
  if find(kind, 'json', 1, true) then return read_json_answer(handle, facts) end
end
