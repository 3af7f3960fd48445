-- SHA-256 and HMAC on machine integers. LuaJIT makes code of it: a block of 64 bytes takes well below a
-- microsecond, and a prompt of a few KB costs less than the JSON scan before it.
local ffi, bit = require('ffi'), require('bit')
local bxor, band, bnot, ror, rshift, bswap, tobit = bit.bxor, bit.band, bit.bnot, bit.ror, bit.rshift, bit.bswap, bit.tobit
local ROUND = ffi.new('uint32_t[64]', {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
})
local START = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 }
local words, state = ffi.new('int32_t[64]'), ffi.new('int32_t[8]')

-- Takes in `count` blocks of 64 bytes that start at `data`.
local function absorb(data, count)
  local source = ffi.cast('const int32_t*', data)
  for block = 0, count - 1 do
    for i = 0, 15 do words[i] = bswap(source[block * 16 + i]) end
    for i = 16, 63 do
      local w15, w2 = words[i - 15], words[i - 2]
      words[i] = tobit(words[i - 16] + words[i - 7] + bxor(ror(w15, 7), ror(w15, 18), rshift(w15, 3))
        + bxor(ror(w2, 17), ror(w2, 19), rshift(w2, 10)))
    end
    local a, b, c, d, e, f, g, h = state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
    for i = 0, 63 do
      local t1 = tobit(h + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(g, band(e, bxor(f, g))) + ROUND[i] + words[i])
      local t2 = tobit(bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(c, bxor(a, b))))
      h, g, f, e, d, c, b, a = g, f, e, tobit(d + t1), c, b, a, tobit(t1 + t2)
    end
    state[0], state[1], state[2], state[3] =
      tobit(state[0] + a), tobit(state[1] + b), tobit(state[2] + c), tobit(state[3] + d)
    state[4], state[5], state[6], state[7] =
      tobit(state[4] + e), tobit(state[5] + f), tobit(state[6] + g), tobit(state[7] + h)
  end
end

local function big_endian(value)
  return string.char(band(rshift(value, 24), 255), band(rshift(value, 16), 255), band(rshift(value, 8), 255), band(value, 255))
end

-- The digest of `text`, 32 bytes.
local function sha256(text)
  for i = 0, 7 do state[i] = tobit(START[i + 1]) end
  local size = #text
  local whole = math.floor(size / 64)
  absorb(text, whole)
  local tail = text:sub(whole * 64 + 1) .. '\128'
  tail = tail .. string.rep('\0', (56 - #tail) % 64) .. big_endian(math.floor(size / 0x20000000)) .. big_endian(tobit(size * 8))
  absorb(tail, #tail / 64)
  local out = {}
  for i = 0, 7 do out[i + 1] = big_endian(state[i]) end
  return table.concat(out)
end

local function hex(bytes)
  return (bytes:gsub('.', function(char) return string.format('%02x', char:byte()) end))
end

local function hmac(key, text)
  if #key > 64 then key = sha256(key) end
  local inner = key:gsub('.', function(char) return string.char(bxor(char:byte(), 0x36)) end)
  local outer = key:gsub('.', function(char) return string.char(bxor(char:byte(), 0x5c)) end)
  local fill = 64 - #key
  return sha256(outer .. string.rep('\92', fill) .. sha256(inner .. string.rep('\54', fill) .. text))
end
