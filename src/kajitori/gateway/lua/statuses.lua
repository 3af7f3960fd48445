-- Statuses that a provider may give, and that are no answer to what was asked: a change to another protocol, a
-- redirection (which a client would follow past the gateway), nothing at all. Text in, text out.

-- facts: of the request. Who asks for what is stored may be told that it has not changed, or lies elsewhere.
local function is_unusable(status, facts)
  local first = byte(status)
  if facts.operation == 'realtime' then return status ~= '101' and first ~= 52 and first ~= 53 end
  if #status ~= 3 or first < 50 or first > 53 then return true end
  if not facts.read and not facts.form then return false end
  return first == 51 or status == '204' or status == '205'
end
