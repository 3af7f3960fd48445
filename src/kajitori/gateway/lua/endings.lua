-- How streams say that they are whole, in dialects whose clients take any proper end for one, and the event that tells
-- of an error there. Text in, text out; gateway/rescue/dialects.py has the same for streams that are relayed.
local EARLY = 'the answer was interrupted: the backend ended the stream too early'
-- Of the latest events so many are kept: usage may follow the one that says so.
local KEPT_EVENTS = 4
-- Of what is longer the beginning is kept, which has its type, and the end.
local LONGEST_KEPT, BEGINNING = 8192, 512

local CHUNKS = { '[\r\n]data: ?%[DONE%]', '"finish_reason"%s*:%s*"' }
-- By operation. Others have clients that know by themselves, or ends that we do not.
local WHOLE = {
  chat = CHUNKS, completion = CHUNKS,
  messages = { '"type"%s*:%s*"message_stop"', '"stop_reason"%s*:%s*"' },
  responses = { '"type"%s*:%s*"response%.completed"', '"type"%s*:%s*"response%.incomplete"',
    '"type"%s*:%s*"response%.failed"' },
}
-- The provider has told the client itself.
local FAILED = { '[\r\n]event: ?error', '"error"%s*:%s*[{"]', '"type"%s*:%s*"error"', '"object"%s*:%s*"error"' }

-- The latest events of a stream of an operation, or nil for one whose end is not looked at.
local function new_recent(operation) return WHOLE[operation] and { operation = operation, count = 0 } end

-- Whether a text is there to keep a connection awake: comments, empty lines, Anthropic's pings. Any number of them may come.
local function says_nothing(text)
  local first = byte(text)
  if first == 101 then return find(text, '^event: ?ping%s') and not find(text, '\n\r?\n%l') end
  return (first == 58 or first == 10 or first == 13) and not find(text, '[\r\n]%l')
end

local function keep_event(recent, event)
  if says_nothing(event) then return end
  local count = recent.count + 1
  recent.count, recent[count % KEPT_EVENTS] = count, event
end

-- text: one event or more, whole.
local function remember(recent, text)
  if #text <= LONGEST_KEPT then return keep_event(recent, text) end
  local at = 1
  repeat
    local _, last = find(text, '\n\r?\n', at)
    last = last or #text
    if last - at < LONGEST_KEPT then
      keep_event(recent, sub(text, at, last))
    else
      keep_event(recent, sub(text, at, at + BEGINNING) .. sub(text, last - LONGEST_KEPT + BEGINNING, last))
    end
    at = last + 1
  until at > #text
end

local function says(text, patterns)
  text = '\n' .. text
  for number = 1, #patterns do
    if find(text, patterns[number]) then return true end
  end
  return false
end

-- Whether a stream has said that it is whole, or that it failed.
local function has_ended(recent)
  local patterns, latest = WHOLE[recent.operation], recent[recent.count % KEPT_EVENTS]
  if latest and says(sub(latest, -80), patterns) then return true end
  for number = 0, KEPT_EVENTS - 1 do
    local text = recent[number]
    if text and (says(text, patterns) or says(text, FAILED)) then return true end
  end
  return false
end

-- The number of the next event of a response.
local function next_number(recent)
  for back = 0, KEPT_EVENTS - 1 do
    local text = recent[(recent.count - back) % KEPT_EVENTS]
    local number = text and string.match(text, '.*"sequence_number"%s*:%s*(%d+)')
    if number then return string.format('%.0f', tonumber(number) + 1) end
  end
  return '0'
end

-- The event that says that a stream was not whole. begun: whether an event before it has no end.
local function early_end(recent, begun)
  local told = begun and '\n\n' or ''
  if recent.operation == 'messages' then
    return told .. 'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"' .. EARLY .. '"}}\n\n'
  end
  if recent.operation == 'responses' then
    return told .. 'event: error\ndata: {"type":"error","code":"stream_interrupted","message":"' .. EARLY
      .. '","param":null,"sequence_number":' .. next_number(recent) .. '}\n\n'
  end
  return told .. 'data: {"error":{"message":"' .. EARLY
    .. '","type":"upstream_error","code":"stream_interrupted","param":null}}\n\n'
end
