--- The first byte says whether to read strictly, the rest is the text.
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

return function(input)
  local value, err = json.decode(input:sub(2), { strict = (input:byte() or 0) % 2 == 1 })
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
