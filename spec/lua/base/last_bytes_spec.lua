-- The last bytes of a stream: which they are, and what they cost.
local last_bytes = require "parley.base.last_bytes"

describe("last_bytes", function()
  it("keeps all that is below the limit", function()
    local kept = last_bytes.new(100)
    assert.equal("", kept:text())
    kept:add "one "
    kept:add "two"
    assert.equal("one two", kept:text())
    kept:add " three"
    assert.equal("one two three", kept:text())
  end)

  for _, limit in ipairs { 1, 7, 1000, 20000, 50000 } do
    for _, size in ipairs { 1, 13, 4096, 70000 } do
      it(("keeps the last %d bytes of pieces of %d"):format(limit, size), function()
        local kept, all = last_bytes.new(limit), {}
        for i = 1, math.max(3, 60000 // size) do
          all[i] = string.char(97 + i % 26):rep(size)
          kept:add(all[i])
          if i % 19997 == 0 then assert.equal(table.concat(all):sub(-limit), kept:text()) end
        end
        assert.equal(table.concat(all):sub(-limit), kept:text())
      end)
    end
  end

  for _, size in ipairs { 1, 1 << 16 } do
    it(("takes no more memory than the limit and a little, with pieces of %d bytes"):format(size), function()
      local limit = 1 << 16
      local kept = last_bytes.new(limit)
      local function fill()
        for i = 1, 8 * limit // size do kept:add(string.char(i % 256):rep(size)) end
        collectgarbage()
        return collectgarbage "count" * 1024
      end
      collectgarbage()
      local before = collectgarbage "count" * 1024
      local after = fill()
      assert.is_true(after - before < 2 * limit, ("%d bytes"):format(after - before))
      assert.is_true(fill() - after < limit / 2)
      assert.equal(limit, #kept:text())
    end)
  end

  it("takes as long for a piece when it is full as before", function()
    local count = 20000
    local function time_for(kept)
      local before = os.clock()
      for _ = 1, count do kept:add "some output" end
      return os.clock() - before
    end
    local full = last_bytes.new(1 << 20)
    for _ = 1, 8 do time_for(full) end
    -- Moving what is kept at every piece takes some hundred times as long, so a busy machine makes no difference.
    assert.is_true(time_for(full) < 20 * time_for(last_bytes.new(1 << 30)) + 0.1)
  end)
end)
