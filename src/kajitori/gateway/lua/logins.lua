-- What SecurityPolicies ask of clients that Envoy's own filters cannot ask so: API keys and passwords, of which only
-- digests are here. Whether a route asks is often known only with the model; Envoy's filters for these cannot be told
-- late that a route does not ask.
--
-- Metadata of a route: `guard`, the name of a login, or `!` and why nobody is let in. Logins have the fields that
-- gateway/policies/security/logins.py writes.

-- Which logins a request has passed, by its handle.
local passed = setmetatable({}, { __mode = 'k' })
local read_logins, logins_kept = {}, 0
local LOGINS_KEPT = 1000

-- SHA-1, which htpasswd has: 20 bytes.
local function sha1(text)
  local band, bor, bxor, bnot, rol, tobit = bit.band, bit.bor, bit.bxor, bit.bnot, bit.rol, bit.tobit
  local size = #text
  local padded = text .. '\128' .. string.rep('\0', (55 - size) % 64) .. '\0\0\0\0' .. big_endian(tobit(size * 8))
  local h0, h1, h2, h3, h4 = 0x67452301, tobit(0xefcdab89), tobit(0x98badcfe), 0x10325476, tobit(0xc3d2e1f0)
  local w = {}
  for block = 1, #padded, 64 do
    for i = 0, 15 do
      local a, b, c, d = byte(padded, block + i * 4, block + i * 4 + 3)
      w[i] = bor(bit.lshift(a, 24), bit.lshift(b, 16), bit.lshift(c, 8), d)
    end
    for i = 16, 79 do w[i] = rol(bxor(w[i - 3], w[i - 8], w[i - 14], w[i - 16]), 1) end
    local a, b, c, d, e = h0, h1, h2, h3, h4
    for i = 0, 79 do
      local f, k
      if i < 20 then f, k = bor(band(b, c), band(bnot(b), d)), 0x5a827999
      elseif i < 40 then f, k = bxor(b, c, d), 0x6ed9eba1
      elseif i < 60 then f, k = bor(band(b, c), band(b, d), band(c, d)), 0x8f1bbcdc
      else f, k = bxor(b, c, d), 0xca62c1d6 end
      e, d, c, b, a = d, c, rol(b, 30), a, tobit(tobit(rol(a, 5) + f + e) + tobit(k) + w[i])
    end
    h0, h1, h2, h3, h4 = tobit(h0 + a), tobit(h1 + b), tobit(h2 + c), tobit(h3 + d), tobit(h4 + e)
  end
  return big_endian(h0) .. big_endian(h1) .. big_endian(h2) .. big_endian(h3) .. big_endian(h4)
end

local function bytes_of(digits)
  return (digits:gsub('%x%x', function(pair) return string.char(tonumber(pair, 16)) end))
end

-- Lines `digest name`, the digest in hexadecimal digits: names by the digest.
local function by_digest(text)
  if text == '' then return nil end
  local found = {}
  for digits, name in string.gmatch(text, '(%x+) ([^\n]+)') do found[bytes_of(digits)] = name end
  return found
end

-- The same with digest and name as one key.
local function by_both(text)
  if text == '' then return nil end
  local found = {}
  for digits, name in string.gmatch(text, '(%x+) ([^\n]+)') do found[bytes_of(digits) .. name] = true end
  return found
end

local function read_login(line)
  local known = read_logins[line]
  if known then return known end
  local fields = {}
  for field in string.gmatch(line .. '\t', '([^\t]*)\t') do fields[#fields + 1] = field end
  local login = { id_header = fields[1], sanitize = fields[2] == '1', sources = {}, keys = by_digest(fields[4]),
    user_header = fields[5], users = by_both(fields[6]) }
  for sort, name in string.gmatch(fields[3], '(%l):([^\n]+)') do
    login.sources[#login.sources + 1] = { sort = sort, name = name }
  end
  if logins_kept >= LOGINS_KEPT then read_logins, logins_kept = {}, 0 end
  read_logins[line], logins_kept = login, logins_kept + 1
  return login
end

-- Value and rest of `text`, a list of `name=value` with separators, or nil.
local function member_of(text, name, separator)
  local value, kept = nil, {}
  for part in string.gmatch(text, '[^' .. separator .. ']+') do
    local key, found = string.match(part, '^%s*([^=]+)=(.*)$')
    if key == name and not value then value = found else kept[#kept + 1] = part end
  end
  return value, table.concat(kept, separator)
end

-- The key of the first place that has one; taken away from there if the policy says so.
local function key_in(headers, source, sanitize)
  if source.sort == 'h' then
    local value = headers:get(source.name)
    if not value or value == '' then return nil end
    if sanitize then headers:remove(source.name) end
    return string.match(value, '^[Bb][Ee][Aa][Rr][Ee][Rr] +(.*)$') or value
  end
  if source.sort == 'c' then
    local value, rest = member_of(headers:get('cookie') or '', source.name, ';')
    if value and sanitize then
      if rest == '' then headers:remove('cookie') else headers:replace('cookie', rest) end
    end
    return value
  end
  local head, query = string.match(headers:get(':path'), '^([^?]*)%?(.*)$')
  if not query then return nil end
  local value, rest = member_of(query, source.name, '&')
  if value and sanitize then headers:replace(':path', rest == '' and head or head .. '?' .. rest) end
  return value and percent_decoded((value:gsub('+', ' ')))
end

local function check_key_of(headers, login)
  for i = 1, #login.sources do
    local key = key_in(headers, login.sources[i], login.sanitize)
    if key then
      local client = login.keys[sha256(key)]
      if not client then return 'the API key is unknown' end
      if login.id_header ~= '' then headers:replace(login.id_header, client) end
      return nil
    end
  end
  return 'an API key is needed'
end

local BASE64 = {}
for place, char in string.gmatch('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', '()(.)') do
  BASE64[char] = place - 1
end

local function from_base64(text)
  local out, bits, count = {}, 0, 0
  for char in string.gmatch(text, '[%w+/]') do
    bits, count = bits * 64 + BASE64[char], count + 6
    if count >= 8 then
      count = count - 8
      local power = 2 ^ count
      out[#out + 1] = string.char(math.floor(bits / power))
      bits = bits % power
    end
  end
  return table.concat(out)
end

local function check_password(headers, login)
  local sent = string.match(headers:get('authorization') or '', '^[Bb][Aa][Ss][Ii][Cc] +([%w+/=]+)$')
  if not sent then return 'a user name and a password are needed' end
  local user, password = string.match(from_base64(sent), '^([^:]*):(.*)$')
  -- Digest and name are one key of the table, so that who has no account costs as much as who has a wrong password.
  if not user or login.users[sha1(password) .. user] == nil then return 'user name or password is wrong' end
  if login.user_header ~= '' then headers:replace(login.user_header, user) end
  return nil
end

-- Whether a route lets a client in, for which it may have to say who it is. False: it has been answered.
local function log_in(handle, path, mark)
  local name = mark:get('guard')
  if not name or passed[handle] == name then return true end
  if byte(name) == 33 then
    refuse(handle, dialect_of(handle, path), '500', sub(name, 2))
    return false
  end
  local line = context_of(handle).logins[name]
  if not line then
    refuse(handle, dialect_of(handle, path), '500', 'what this route asks of its clients is not known here')
    return false
  end
  local login, headers = read_login(line), handle:headers()
  local problem = login.keys and check_key_of(headers, login)
  local challenge = nil
  if not problem and login.users then
    problem = check_password(headers, login)
    challenge = problem and 'Basic realm=' .. quote(headers:get(':authority') or '')
  end
  if problem then
    refuse(handle, dialect_of(handle, path), '401', problem, { ['www-authenticate'] = challenge })
    return false
  end
  passed[handle] = name
  return true
end
