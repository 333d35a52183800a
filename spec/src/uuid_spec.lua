local uuid = require("parley.core").uuid

describe("uuid", function()
  it("offers what its stub says", function()
    local stub = dofile("lua/parley/core/uuid.lua")
    for name in pairs(uuid) do
      assert.is_function(stub[name], name)
      stub[name] = nil
    end
    assert.same({}, stub)
  end)

  it("makes random identifiers of version 4 in lower case", function()
    local seen = {}
    for _ = 1, 1000 do
      local id = uuid.generate()
      assert.truthy(id:match("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"), id)
      assert.equal(id:lower(), id)
      assert.is_nil(seen[id])
      seen[id] = true
      assert.is_true(uuid.is_valid(id))
    end
  end)

  it("accepts either case and any version", function()
    assert.is_true(uuid.is_valid("F81D4FAE-7dec-11d0-A765-00a0c91e6bf6"))
    assert.is_true(uuid.is_valid("00000000-0000-0000-0000-000000000000"))
  end)

  it("accepts nothing that could name a path or is not whole", function()
    local id = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
    local refused = {
      "", "x", id:sub(2), id .. "0", " " .. id, id .. "\n", id .. "\0", id:gsub("-", ""), "{" .. id .. "}",
      id:gsub("f", "g"), id:gsub("-", "/"), "../../../../../../../../../etc/passwd", id:sub(1, 35) .. "\0",
      "f81d4fae7-dec-11d0-a765-00a0c91e6bf6", 36, true, {}, print,
    }
    for _, text in ipairs(refused) do
      assert.is_false(uuid.is_valid(text), tostring(text))
    end
    assert.is_false(uuid.is_valid(nil))
  end)
end)
