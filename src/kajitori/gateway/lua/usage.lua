-- Reads what an answer says of the tokens it took, as it passes: nothing is held back but the usage event that the
-- client of a stream did not ask for, which is taken out. What is kept of an answer is bounded.
local MOST_KEPT = 65536
-- A JSON answer that says that it is no longer is waited for as a whole.
local MOST_WAITED_FOR = 16384
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

-- Where an object begins that is the value of the member whose name ends before `at`, or nil.
local function object_behind(text, at)
  local colon = skip_space(text, at)
  if not colon or byte(text, colon) ~= 58 then return nil end
  local opens = skip_space(text, colon + 1)
  return opens and byte(text, opens) == 123 and opens or nil
end

-- Places of one search, which is over before anybody waits.
local places = {}

-- The object that is the member `name` (with its quotes) of the object at the end of `text`, or of its member `within`:
-- where it starts and ends. What a model or a client wrote may have members of that name too, further down; they are
-- passed over.
local function object_of(text, name, depth)
  local count, at = 0, 1
  while true do
    local place, last = find(text, name, at, true)
    if not place then break end
    local opens = object_behind(text, last + 1)
    if opens then
      count = count + 1
      -- Only the last ones are looked at.
      places[(count - 1) % MOST_CANDIDATES] = opens
    end
    at = last + 1
  end
  for number = count, math.max(1, count - MOST_CANDIDATES + 1), -1 do
    local opens = places[(number - 1) % MOST_CANDIDATES]
    pieces = 0
    local last = value_end(text, opens)
    if last and closes(text, last + 1, depth) then return sub(text, opens, last) end
  end
  return nil
end

-- Names of counts, in any dialect, and what they count.
local COUNTS = { prompt_tokens = 'input', input_tokens = 'input', completion_tokens = 'output', output_tokens = 'output',
  total_tokens = 'total', cached_tokens = 'cached', reasoning_tokens = 'reasoning', cache_read_input_tokens = 'read',
  cache_creation_input_tokens = 'creation', cache_creation_tokens = 'creation' }
local SECOND_CHOICE = { input_tokens = 'prompt_tokens', output_tokens = 'completion_tokens',
  cache_creation_tokens = 'cache_creation_input_tokens' }
local MOST_TOKENS = 1e12
-- In which object each name was seen last, by its number.
local seen, objects = {}, 0

-- The number whose first digit is at `at`, and where it ends.
local function number_at(text, at)
  local number, char = 0, byte(text, at)
  while char and char >= 48 and char <= 57 do
    number = number * 10 + char - 48
    at = at + 1
    char = byte(text, at)
  end
  return number, at
end

-- Takes over the counts of a usage object, in any dialect. What it does not name stays as it was.
-- Anthropic counts what went through its cache beside the input; here it is a part of it, as everywhere else.
local function take_counts(counts, object)
  objects = objects + 1
  -- One walk over all names: a search for each costs three times as much, and patterns are never compiled.
  local opens = find(object, '"', 1, true)
  while opens do
    local ends = find(object, '"', opens + 1, true)
    if not ends then break end
    local at = skip_space(object, ends + 1)
    if at and byte(object, at) == 58 then
      at = skip_space(object, at + 1)
      local digit = at and byte(object, at)
      local name = digit and digit >= 48 and digit <= 57 and sub(object, opens + 1, ends - 1)
      local count = name and COUNTS[name]
      if count and seen[name] ~= objects then
        seen[name] = objects
        local better = SECOND_CHOICE[name]
        if not (better and seen[better] == objects) then
          counts[count] = math.min(number_at(object, at), MOST_TOKENS)
        end
      end
    end
    opens = ends  -- if what stood between was no name, this quote may begin one
  end
  return counts.input or counts.output or counts.total
end

-- A count as text: sums of a session may be so large that Lua would write them with an exponent.
local function digits(count)
  return count <= MOST_TOKENS and tostring(count) or string.format('%.0f', count)
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
  local creation, reasoning = counts.creation or 0, counts.reasoning or 0
  local told = digits(input) .. ',' .. digits(output) .. ',' .. digits(total)
  if cached == 0 and creation == 0 and reasoning == 0 then return told .. ',0,0,0' end
  return told .. ',' .. digits(cached) .. ',' .. digits(creation) .. ',' .. digits(reasoning)
end

local MODEL_MEMBER = '"model"%s*:%s*"([^"\\%c]*)"'
-- Names that were seen already, so that most answers are not searched for odd characters.
local GOOD_MODELS, good_models = {}, 0

local function is_good_model(model)
  if GOOD_MODELS[model] then return true end
  if find(model, '[\\%c]') then return false end
  if #model <= LONGEST_ANSWERED_MODEL then
    if good_models >= 1000 then GOOD_MODELS, good_models = {}, 0 end
    GOOD_MODELS[model], good_models = true, good_models + 1
  end
  return true
end

-- The model that an answer names as its author, or nil. It stands in front, or behind what is long.
local function answered_model(text)
  local place, last = find(text, '"model"', 1, true)
  if not place then return nil end
  local model = nil
  local at = place <= 2048 and skip_space(text, last + 1)
  if at and byte(text, at) == 58 then
    at = skip_space(text, at + 1)
    local ends = at and byte(text, at) == 34 and find(text, '"', at + 1, true)
    model = ends and sub(text, at + 1, ends - 1)
    if model and not is_good_model(model) then model = nil end
  end
  model = model or string.match(sub(text, 1, 2048), MODEL_MEMBER) or string.match(sub(text, -512), MODEL_MEMBER)
  return model and #model <= LONGEST_ANSWERED_MODEL and model or nil
end

local function tell(handle, told, model)
  if model then told = told .. ';' .. model end
  handle:streamInfo():dynamicMetadata():set(METADATA, 'usage', told)
end

-- The usage object of a JSON answer or of the data of an event; its members show which it is.
local function usage_object(text)
  local object = object_of(text, '"usage"', 1)
  if object then return object end
  if find(text, '"usage"', 1, true) then
    -- `response.completed` of Responses, `message_start` of Anthropic.
    if find(text, '"response"', 1, true) or find(text, '"message"', 1, true) then
      return object_of(text, '"usage"', 2)
    end
    return nil
  end
  return object_of(text, '"tokens"', 2) or object_of(text, '"billed_units"', 2)  -- `meta` of Cohere
end

-- Says what the answer tells of its usage. head, tail: its beginning and its end, or all of it twice.
local function tell_answer(handle, facts, head, tail)
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

-- length: as the answer's head says it, or nil.
local function read_json_answer(handle, facts, length)
  if length and length <= MOST_WAITED_FOR then
    -- It comes in one piece or two; waiting for all of it is cheaper than to look at each.
    local body = handle:body()
    local text = body and body:getBytes(0, body:length())
    return text and tell_answer(handle, facts, text, text)
  end
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
  tell_answer(handle, facts, head, tail)
end

-- Whether a usage object begins in `text`; many providers put `"usage":null` into every other event. Events are full of
-- quotes, so it is the letter behind that is looked for.
local function has_usage(text)
  local place, last = find(text, 'usage"', 1, true)
  while last do
    if byte(text, place - 1) == 34 and object_behind(text, last + 1) then return true end
    place, last = find(text, 'usage"', last + 1, true)
  end
  return false
end

-- True for a whole event that carries usage and nothing else.
local function only_usage(event)
  return find(event, '"choices"%s*:%s*%[%s*%]') and find(event, '"usage"%s*:%s*{') and true or false
end

-- How many events with output are in a chunk, and whether it is of whole events without usage, as most are.
local function look_at(text, size, needle)
  local events, at = 0, 1
  while at <= size do
    local _, last = find(text, needle, at, true)
    if not last then break end
    events, at = events + 1, last + 1
  end
  return events, byte(text, size) == 10 and byte(text, size - 1) == 10 and not has_usage(text)
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
  tell(state.handle, '~' .. tostring(math.max(state.events - state.empty, 0)) .. state.started, state.model)
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
  local strip, needle = facts.strip ~= nil, facts.event
  local state = { handle = handle, dialect = facts.dialect, counts = {}, events = 0,
    next_mark = 1, looked = 0, started = '', empty = needle == '\n\n' and 1 or 0 }
  local kept = ''
  for chunk in handle:bodyChunks() do
    local size = chunk:length()
    if size > 0 then
      local text = chunk:getBytes(0, size)
      if not state.model and state.looked < CHUNKS_WITH_MODEL then
        state.model, state.looked = answered_model(text), state.looked + 1
      end
      local events, plain = look_at(text, size, needle)
      state.events = state.events + events
      -- Every few events it is said how many came: a stream that is cut runs no more of this script.
      if state.events >= state.next_mark and not state.final then
        tell_seen(state)
        state.next_mark = state.events + EVENTS_A_MARK
      end
      -- Most chunks are plain: they pass untouched.
      if not plain or kept ~= '' or state.parts then
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
  if find(kind, 'json', 1, true) then
    local length = headers:get('content-length')
    return read_json_answer(handle, facts, length and tonumber(length))
  end
end
