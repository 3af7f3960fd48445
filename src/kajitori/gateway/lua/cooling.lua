-- Runs in the chain of a backend when it answered other than 200, for every attempt. After 429 and 503 the backend is left
-- alone for as long as it asked for, by all requests: a 429 speaks of one model, a 503 of the whole backend. What is no answer
-- at all becomes a 502, so that the next backend is asked; usage.lua tells the client if there is none. Needs memory.lua, facts.lua
-- and statuses.lua in front.
--
-- Context: target (AIServiceBackend as namespace/name), model (override), key (whose credential goes with an attempt:
-- the gateway's, the request's, or the client's if it sent one). Metadata of the route: cooldown (default and most,
-- seconds); absent where nothing is to be remembered.
local MONTHS = { Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11,
  Dec = 12 }

-- Seconds since 1970 of a date as HTTP writes it (RFC 9110, 5.6.7), or nil.
local function http_date(text)
  local day, month, year, hour, minute, second =
    string.match(text, '^%a+, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$')
  month = month and MONTHS[month]
  if not month then return nil end
  -- Days of the civil calendar, counted from 1 March.
  year = tonumber(year) - (month <= 2 and 1 or 0)
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local of_year = math.floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + tonumber(day) - 1
  local days = era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year - 719468
  return days * 86400 + tonumber(hour) * 3600 + tonumber(minute) * 60 + tonumber(second)
end

-- Seconds that a backend asks to be left alone, or nil if it says nothing that can be read.
local function asked_seconds(headers, now)
  local milliseconds = tonumber(string.match(headers:get('retry-after-ms') or '', '^%d+%.?%d*$'))
  if milliseconds then return milliseconds / 1000 end
  local text = headers:get('retry-after')
  if not text then return nil end
  local seconds = tonumber(string.match(text, '^%s*(%d+%.?%d*)%s*$'))
  if seconds then return seconds end
  local date = http_date(text)
  return date and math.max(date - now, 0)
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get(':status')
  if status ~= '429' and status ~= '503' then
    local facts = kept_facts(handle)
    if facts and is_unusable(status, facts) then
      headers:replace(':status', '502')
      headers:replace('x-kajitori-instead', 'unusable status ' .. status)
    end
    return
  end
  local cooldown = handle:metadata():get('cooldown')
  if not cooldown then return end
  local now = tonumber(handle:timestamp()) / 1000
  local seconds = asked_seconds(headers, now)
  local context = handle:filterContext()
  local target = context:get('target')
  if status == '503' then
    if not seconds then return end
    cool(target .. '\n', seconds, now, cooldown.default, cooldown.most)
    return
  end
  local facts = kept_facts(handle)
  local key = context:get('key')
  -- What a provider says to the key of one client is no reason to keep the others away.
  if key == 'request' or (key == 'client' and facts and facts.own_key) then return end
  local model = context:get('model') or (facts and facts.model) or ''
  cool(target .. '\n' .. model, seconds, now, cooldown.default, cooldown.most)
end
