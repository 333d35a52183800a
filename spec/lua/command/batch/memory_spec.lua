local json = require("parley.core").json
local memory = require "parley.command.batch.memory"

local function success(id, line) return { id = id, line = line or 1, verdict = "success" } end

local function failure(id) return { id = id, line = 1, verdict = "failed", error = { message = "no" } } end

local function rejection(line, why)
  return { id = json.null, line = line, verdict = "failed", error = { message = why } }
end

describe("a batch's memory", function()
  --- What is known after these results.
  local function after(results, options)
    local known = memory.new(options)
    for _, result in ipairs(results) do known:see(result) end
    return known
  end

  it("knows how a conversation ended, and that it was met in this run", function()
    local known = after { success "a", failure "b", success(7) }
    assert.same({ "success", "failed", "success" }, { known:meet "a", known:meet "b", known:meet "7" })
    assert.is_nil(known:meet "c")
    assert.same({ "met", "met" }, { known:meet "a", known:meet "c" })
    assert.is_false(known:has_leftovers())
  end)

  it("lives with a rejected line that does not say why", function()
    for _, err in ipairs { json.null, 5, true } do
      local known = after { { id = json.null, line = 3, verdict = "failed", error = err } }
      assert.is_false(known:meet_rejected(3, "no"))
    end
  end)

  it("takes the last of several results for the one that counts", function()
    local known = after { failure "a", success "a", success "b", failure "b" }
    assert.same({ "success", "failed" }, { known:meet "a", known:meet "b" })
    assert.is_true(known:has_leftovers())
    assert.equal(known:name_of(failure "a"), known:name_of(success("a", 9)))
    assert.not_equal(known:name_of(success "a"), known:name_of(success "b"))
  end)

  it("has those that failed run again when it is told to", function()
    local known = after({ success "a", failure "b" }, { retry_failed = true })
    assert.equal("success", known:meet "a")
    assert.is_false(known:has_leftovers())
    assert.is_nil(known:meet "b")
    assert.is_true(known:has_leftovers()) -- when the new result stands there, too
    assert.equal("met", known:meet "b")
  end)

  describe("of a line that was no conversation", function()
    it("knows whether the output says of it what is wrong now", function()
      local known = after { rejection(2, "not JSON"), rejection(3, "not JSON") }
      assert.is_true(known:meet_rejected(2, "not JSON"))
      assert.is_false(known:has_leftovers())
      assert.is_false(known:meet_rejected(3, "unknown field 'x'"))
      assert.is_true(known:has_leftovers())
      assert.is_false(known:meet_rejected(4, "not JSON"))
    end)

    it("gives up the failure of one that was mended, once every line was met", function()
      local known = after { rejection(2, "not JSON"), rejection(3, "not JSON") }
      known:meet "mended"
      known:meet_rejected(3, "not JSON")
      assert.is_false(known:has_leftovers())
      assert.is_string(known:name_of(rejection(2, "not JSON")))
      known.has_read_all = true
      assert.is_true(known:has_leftovers())
      assert.is_nil(known:name_of(rejection(2, "not JSON")))
      assert.is_string(known:name_of(rejection(3, "not JSON")))
      assert.is_string(known:name_of(success("x", 2)))
    end)
  end)
end)
