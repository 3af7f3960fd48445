-- Finds what an answer, or an event of one, says of tokens and of the model that answered: text in, text out. Needs
-- scanner.lua in front.
local MOST_CANDIDATES = 4
local LONGEST_ANSWERED_MODEL = 128

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
