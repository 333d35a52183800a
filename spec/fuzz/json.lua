--- The first byte says whether to read strictly, the rest is the text, and a value to write.
local json = require("parley.core").json

local function same(left, right)
  if type(left) ~= "table" or type(right) ~= "table" then
    return left == right and math.type(left) == math.type(right)
  end
  for key, value in next, left do
    if not same(value, right[key]) then return false end
  end
  for key in next, right do
    if left[key] == nil then return false end
  end
  return json.is_array(left) == json.is_array(right)
end

local function check_text(source, is_strict)
  local value, err = json.decode(source, { strict = is_strict })
  if value == nil then
    assert(err.code == "EJSON" and utf8.len(err.message), err.message)
    return
  end
  local text, why = json.encode(value, { sort_keys = true })
  if not text then -- 1e999 can be read, and not be written
    assert(why.message:find "finite", why.message)
    return
  end
  local again = json.decode(text, { strict = true })
  assert(same(value, again), text)
  assert(json.encode(again, { sort_keys = true }) == text, text)
  assert(same(value, json.decode((assert(json.encode(value, { indent = 3 }))))), text)
end

--- A text may lose something when it is read, and nothing would show it; what Lua has made must come back.
local function check_value(value)
  local text = json.encode({ value })
  assert(not text or same(json.decode(text, { strict = true })[1], value), text)
end

return function(input)
  local source = input:sub(2)
  check_text(source, (input:byte() or 0) % 2 == 1)
  if utf8.len(source) then
    check_value(source)
    check_value { [source] = true }
  end
  if #source >= 8 then
    check_value((string.unpack("j", source)))
    check_value((string.unpack("n", source)))
  end
end
