-- Runs once an attempt, last of all: signs what goes out with AWS's signature, version 4. The keys are those that the
-- request brought, else the configured ones, which Envoy has put into a header that is taken away here.
--
-- Context: region, service, host (which name is signed; none: that of the request), and where the request's own
-- keys are: namespace, keys, fallback.
local SECRET = 'x-kajitori-aws-credentials'

-- Access key, secret key and perhaps a session token; nil if there are none.
local function keys_of(handle, context, configured)
  local values = brought(handle, context)
  if values then
    local own = values[1]
    if type(own) ~= 'table' then own = { accessKeyId = values[1], secretAccessKey = values[2], sessionToken = values[3] } end
    if is_text(own.accessKeyId) and is_text(own.secretAccessKey) then
      return own.accessKeyId, own.secretAccessKey, is_text(own.sessionToken) and own.sessionToken or nil
    end
    if not context:get('fallback') then return nil end
  end
  return string.match(configured or '', '^(%S+) (%S+) ?(%S*)$')
end

local function escaped(text)
  return (text:gsub('[^%w%-._~]', function(char) return string.format('%%%02X', char:byte()) end))
end

-- AWS encodes the path of the request once more, and leaves out empty and relative segments.
local function canonical_path(path)
  local kept = {}
  for segment in path:gmatch('[^/]+') do
    if segment == '..' then kept[#kept] = nil
    elseif segment ~= '.' then kept[#kept + 1] = escaped(segment)
    end
  end
  local last = path:sub(-1) == '/' and #kept > 0 and '/' or ''
  return '/' .. table.concat(kept, '/') .. last
end

local function unescaped(text)
  return (text:gsub('%%(%x%x)', function(code) return string.char(tonumber(code, 16)) end))
end

local function canonical_query(query)
  local pairs_ = {}
  for part in query:gmatch('[^&]+') do
    local name, value = part:match('^([^=]*)=?(.*)$')
    pairs_[#pairs_ + 1] = { escaped(unescaped(name)), escaped(unescaped(value)) }
  end
  table.sort(pairs_, function(one, other)
    if one[1] ~= other[1] then return one[1] < other[1] end
    return one[2] < other[2]
  end)
  for i, pair in ipairs(pairs_) do pairs_[i] = pair[1] .. '=' .. pair[2] end
  return table.concat(pairs_, '&')
end

function envoy_on_request(handle)
  local body = handle:body()
  local context = handle:filterContext()  -- waiting for the body makes objects stale that were got before it
  local payload = sha256_hex(body and body:length() > 0 and body:getBytes(0, body:length()) or '')
  local headers = handle:headers()
  local access, secret, session = keys_of(handle, context, headers:get(SECRET))
  headers:remove(SECRET)
  if not access then return refuse_without(handle) end
  if session == '' then session = nil end
  local host = context:get('host')
  if host then headers:replace(':authority', host) else host = headers:get(':authority') end
  local path, query = headers:get(':path'):match('^([^?]*)%??(.*)$')
  local time = os.date('!%Y%m%dT%H%M%SZ')
  local region, service = context:get('region'), context:get('service')

  local signed = 'host;x-amz-content-sha256;x-amz-date'
  local lines = 'host:' .. host .. '\nx-amz-content-sha256:' .. payload .. '\nx-amz-date:' .. time .. '\n'
  headers:remove('x-amz-security-token')
  if session then
    signed = signed .. ';x-amz-security-token'
    lines = lines .. 'x-amz-security-token:' .. session .. '\n'
    headers:replace('x-amz-security-token', session)
  end
  local request = table.concat({
    headers:get(':method'), canonical_path(path), canonical_query(query), lines, signed, payload,
  }, '\n')
  local scope = time:sub(1, 8) .. '/' .. region .. '/' .. service .. '/aws4_request'
  local key = 'AWS4' .. secret
  for part in scope:gmatch('[^/]+') do key = hmac(key, part) end
  local signature = hmac_hex(key, 'AWS4-HMAC-SHA256\n' .. time .. '\n' .. scope .. '\n' .. sha256_hex(request))
  headers:replace('x-amz-date', time)
  headers:replace('x-amz-content-sha256', payload)
  headers:replace('authorization', 'AWS4-HMAC-SHA256 Credential=' .. access .. '/' .. scope
    .. ', SignedHeaders=' .. signed .. ', Signature=' .. signature)
end
