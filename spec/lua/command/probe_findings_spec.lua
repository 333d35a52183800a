local errors = require "parley.base.errors"
local probe_findings = require "parley.command.probe_findings"

describe("probe_findings", function()
  local facts

  before_each(function()
    facts = {
      ready_ms = 420, dialogs = {}, status_file = "live", watch = "notify", leaked = {}, exit = { exit_code = 143 },
      left = { process = false, group = false, status_file = false, descriptors = 0 },
      turn = { received = { "hi" }, is_verbatim = true, subtype = "success", receipt_ms = 70.5, answer_ms = 120,
        end_ms = 120, is_ready_again = true },
      ending = { certainty = "certain", duration = true, still_ms = 0 },
      cancelled = { process = false },
    }
  end)

  --- Level and message of a finding; nil when there is none.
  local function finding(check)
    for _, found in ipairs(probe_findings.judge(facts)) do
      if found.check == check then return found.level, found.message, found.remedy end
    end
  end

  it("finds nothing wrong with a good turn", function()
    for _, found in ipairs(probe_findings.judge(facts)) do assert.equal("ok", found.level, found.message) end
    assert.same({ "ok", "ready for a message after 0.42 s" }, { finding "start" })
    assert.same({ "ok", "closing and cancelling leave nothing behind" }, { finding "close" })
  end)

  it("says nothing of a turn that was not tried", function()
    facts.turn, facts.ending, facts.cancelled = nil, nil, nil
    assert.is_nil(finding "once")
    assert.same({ "ok", "closing leaves nothing behind" }, { finding "close" })
  end)

  it("tells the dialogs, and which one stopped it", function()
    facts = { dialogs = { { kind = "trust", answered = true }, { kind = "bypass", answered = false } }, leaked = {},
      error = errors.dialog_error("x", { dialog = { kind = "bypass", remedy = "do that" } }), left = facts.left }
    assert.same({ "ok", "seen: trust (answered), bypass (not answered)" }, { finding "dialogs" })
    assert.same({ "problem", "the dialog 'bypass' waits for an answer", "do that" }, { finding "start" })
  end)

  it("tells another error", function()
    facts = { dialogs = {}, leaked = {}, error = errors.session_error "it exited", left = facts.left }
    local level, message = finding "start"
    assert.equal("problem", level)
    assert.matches("it exited", message, 1, true)
    assert.is_nil(finding "close")
  end)

  it("warns of a slow start and of polling", function()
    facts.ready_ms, facts.watch = 20000, "poll"
    assert.equal("warning", (finding "start"))
    local found = {}
    for _, one in ipairs(probe_findings.judge(facts)) do
      if one.check == "signals" then table.insert(found, one.level) end
    end
    assert.same({ "ok", "warning" }, found)
  end)

  it("names variables that got through", function()
    facts.leaked = { "ANTHROPIC_API_KEY" }
    local level, message = finding "environment"
    assert.equal("problem", level)
    assert.matches("ANTHROPIC_API_KEY", message, 1, true)
  end)

  it("misses a message, and notices a second one", function()
    facts.turn.received = {}
    local level, message = finding "once"
    assert.same({ "problem", "the message is not in the transcript" }, { level, message })
    assert.is_nil(finding "verbatim")
    facts.turn.received = { "hi", "hi" }
    level, message = finding "once"
    assert.same({ "problem", "the message is 2 times in the transcript" }, { level, message })
  end)

  it("shows what arrived instead", function()
    facts.turn.received, facts.turn.is_verbatim = { "ho" }, false
    local level, message = finding "verbatim"
    assert.equal("problem", level)
    assert.equal('it arrived as "ho"', message)
  end)

  it("says by which sign the end was known", function()
    local signs = {
      { { certainty = "certain", duration = true }, "ok", "turn_duration" },
      { { certainty = "certain", stop_hook = true }, "ok", "Stop hook" },
      { { certainty = "certain", api_error = true }, "ok", "API error" },
      { { certainty = "likely", still_ms = 300.4 }, "warning", "300 ms of silence" },
    }
    for _, sign in ipairs(signs) do
      facts.ending = sign[1]
      local level, message = finding "end"
      assert.equal(sign[2], level)
      assert.matches(sign[3], message, 1, true)
    end
  end)

  it("reports a turn that went wrong", function()
    facts.turn.subtype, facts.turn.message = "error_api", "API Error: 400"
    local level, message = finding "answer"
    assert.equal("problem", level)
    assert.equal("the turn ended with error_api: API Error: 400", message)
  end)

  it("names what was left behind", function()
    facts.left = { process = true, group = true, status_file = true, descriptors = 2 }
    facts.cancelled.process = true
    local level, message = finding "close"
    assert.equal("problem", level)
    assert.equal("closing has left its process, 2 descriptors, the process of a cancelled start", message)
    facts.left = { process = false, group = true, status_file = false, descriptors = 0 }
    assert.matches("a process that it started", select(2, finding "close"), 1, true)
  end)
end)
