-- Promise 10 of the README, on the stand-in over a real pty. Each spec fails when the promise is broken.
local files = require "parley.base.files"
local helper = require "spec.helper"
local promise = require "spec.promise"

promise.on_pty = true

local say, on, each = helper.say, promise.on, promise.each

describe("promise 10, versions:", function()
  promise.check_leaks()

  each("what a version offers is observed", {}, function(live, _, profile)
    assert.equal("success", say(live, "hello").verdict)
    assert.equal(profile, live:view().version)
    assert.equal(profile ~= "2.1.110", live.transcript.offers_duration)
  end)

  on({ "2.1.110" }, "a turn without a last record ends soon all the same", {}, function(live)
    say(live, "warm")
    local said = say(live, "hello")
    assert.is_true(said.result.duration_ms < 3000) -- so long an end that is owed would be waited for
  end)

  on({ "2.1.110" }, "a status file that names a version and never a status is not waited for",
    { script = { profile_changes = { version = "2.1.116", status_file = "named" } } },
    function(live)
      assert.same({ "echo: hello" }, say(live, "hello").texts)
      assert.same({ "first text", "second text" }, say(live, "THINK").texts)
    end)

  on({ "2.1.197" }, "a last record that a version with a status does not write is not waited for",
    { script = { profile_changes = { version = "2.1.119", turn_duration = false } } },
    function(live)
      say(live, "warm")
      assert.is_true(say(live, "hello").result.duration_ms < 3000)
    end)

  on({ "2.1.197" }, "a program that fails in its own code where it resumes is an error at once",
    { script = { profile_changes = { version = "2.1.120", fails_on_resume = true } } },
    function(live, kit)
      say(live, "hello")
      live:close()
      local again <close> = promise.new(kit, {}, { resume_session_id = live.session_id })
      local err = helper.failure_of("SessionError", again.start, again)
      assert.same({ "crash", true }, { err.reason, err.at_start })
      assert.matches("has failed in its own code.*: UKH is not a function", err.message)
    end)

  each("a transcript that ends in half a line is gone on with, and no message is lost to that", {}, function(live, kit)
    say(live, "hello")
    live:close()
    files.put(live.jsonl_path, '{"type":"last-prompt","la', "a") -- its program was killed
    local again <close> = promise.new(kit, {}, { resume_session_id = live.session_id })
    again:start()
    for _, text in ipairs { "one", "two" } do assert.same({ "echo: " .. text }, say(again, text).texts) end
    assert.same({ "hello", "echo: hello", "one", "echo: one", "two", "echo: two" }, helper.texts_in(live.jsonl_path))
  end)

  on({ "2.1.330" }, "a version that is not known, without status and last record, works as the oldest does",
    { script = { profile_changes = { version = "9.9.9", status_file = "none", turn_duration = false } } },
    function(live)
      assert.same({ "echo: hello" }, say(live, "hello").texts)
      assert.same({ "first text", "second text" }, say(live, "THINK").texts)
    end)
end)
