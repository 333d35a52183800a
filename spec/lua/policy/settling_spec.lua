local settling = require "parley.policy.settling"

---What is known of an answered turn, with changes.
local function facts(changes)
  local all = { state = "running", certainty = "likely", assistant_blocks = 1, last_is_answer = true,
    stop_reason = "end_turn", agents = 0 }
  for name, value in pairs(changes or {}) do all[name] = value end
  return all
end

local function subtype(changes)
  local verdict = settling.judge(facts(changes), 1e9)
  return verdict and verdict.subtype
end

---How long the transcript must be silent.
local function patience(changes)
  local verdict, missing = settling.judge(facts(changes), 0)
  assert.is_nil(verdict)
  return missing
end

describe("policy.settling", function()
  it("waits for a turn that goes on, however long", function()
    assert.same({}, { settling.judge(facts { certainty = "goes_on" }, 1e9) })
  end)

  it("does not wait for one that is certain", function()
    assert.same({ subtype = "success", stop_reason = "end_turn" }, settling.judge(facts { certainty = "certain" }, 0))
  end)

  it("waits for lines that may be on their way", function()
    assert.equal(300, patience())
    assert.equal(100, select(2, settling.judge(facts(), 200)))
    assert.equal("success", settling.judge(facts(), 300).subtype)
  end)

  it("waits longer where more is missing", function()
    assert.is_true(patience { stop_reason = "tool_use" } > 1000)
    assert.is_true(patience { stop_reason = "max_tokens" } > 1000)
    assert.is_true(patience { last_is_answer = false } > 1000)
    assert.equal(3000, patience { offers_duration = true })
    assert.is_true(patience { offers_duration = true, last_is_answer = false } > 8000) -- the answer, too
    assert.is_true(patience { assistant_blocks = 0 } > 6000) -- a program that stands still so long
    assert.is_true(patience { agents = 1 } > 600000)
    assert.is_true(patience { stop_reason = "tool_use", open_tools = 1 } > 5000)
    assert.equal(3000, patience { broken_off = true, offers_duration = true, stop_reason = "stop_sequence" })
    assert.equal(1500, patience { broken_off = true, stop_reason = "stop_sequence" })
    assert.is_true(patience { interrupting = true, state = "submitted" } > 1000)
    assert.equal(300, patience { interrupting = true })
    assert.is_true(patience { interrupting = true, open_tools = 1 } > 1000)
    assert.equal(300, patience { assistant_blocks = 0, stopped = true, offers_duration = true })
  end)

  it("gives each ending its name", function()
    assert.equal("success", subtype())
    assert.equal("error_no_output", subtype { assistant_blocks = 0 })
    assert.equal("success", subtype { assistant_blocks = 0, is_command = true })
    assert.equal("error_no_output", subtype { open_tools = 1 })
    assert.equal("success", subtype { open_tools = 1, is_command = true })
    assert.equal("error_hook", subtype { assistant_blocks = 0, stopped = true })
    assert.equal("error_command", subtype { assistant_blocks = 0, is_command = true, failed = true })
    assert.equal("error_api", subtype { api_error = true })
    assert.equal("interrupted", subtype { interrupted = true })
  end)

  describe("after an interrupt", function()
    it("says interrupted when the answer is not whole", function()
      assert.equal("interrupted", subtype { interrupting = true, last_is_answer = false })
      assert.equal("interrupted", subtype { interrupting = true, stop_reason = "tool_use" })
      assert.equal("interrupted", subtype { interrupting = true, last_is_answer = false, failed = true })
      assert.equal("interrupted", settling.judge({ certainty = "likely", interrupting = true, agents = 0,
        assistant_blocks = 1, last_is_answer = true }, 1e9).subtype)
    end)

    it("says what the turn came to by itself", function()
      assert.equal("success", subtype { interrupting = true })
      assert.equal("success", subtype { interrupting = true, duration = true, last_is_answer = false })
      assert.equal("error_api", subtype { interrupting = true, api_error = true })
    end)
  end)
end)
