local defer = require "parley.base.defer"
local task = require "parley.base.task"

describe("defer", function()
  it("acts when the block is left, and not before", function()
    local said = {}
    do
      local _ <close> = defer(function(err) table.insert(said, { err = err }) end)
      assert.same({}, said)
    end
    assert.same({ {} }, said)
  end)

  it("gives the error that leaves the block, and lets it pass", function()
    local seen
    local ok, err = pcall(function()
      local _ <close> = defer(function(given) seen = given end)
      error({ code = "Anything" }, 0)
    end)
    assert.is_false(ok)
    assert.same({ code = "Anything" }, err)
    assert.equal(err, seen)
  end)

  it("may wait", function()
    local has_waited = false
    task.run(function()
      local _ <close> = defer(function()
        task.spawn(function() has_waited = true end):await()
      end)
    end)
    assert.is_true(has_waited)
  end)
end)
