-- Promise 8 of the README, on the stand-in over a real pty. Each spec fails when the promise is broken.
local uv = require "luv"
local backend = require "parley.backend"
local process = require "parley.claude.process"
local helper = require "spec.helper"
local promise = require "spec.promise"

promise.on_pty = true

local failure_of, on = helper.failure_of, promise.on

describe("promise 8, private:", function()
  promise.check_leaks()

  on({ "2.1.330" }, "what is written is its owner's alone, and is gone afterwards", { is_not_started = true },
    function(_, kit)
      local before = helper.names_in(uv.os_tmpdir())
      local of_backend = { history_injection_mode = "native_jsonl" }
      for name, value in pairs(kit.options) do of_backend[name] = value end
      local talks = backend.new(of_backend)
      local messages = { { role = "user", content = "a" }, { role = "assistant", content = "b" },
        { role = "user", content = "c" } }
      for _ in talks:complete(messages) do end -- luacheck: ignore 542
      local id = next(talks:live_sessions())
      local path = kit:transcript_path(id)
      assert.equal(tonumber("600", 8), uv.fs_stat(path).mode & tonumber("777", 8))
      assert.equal(tonumber("700", 8), uv.fs_stat(path:match "^(.*)/").mode & tonumber("777", 8))
      talks:close()
      local after = {}
      for _, name in ipairs(helper.names_in(uv.os_tmpdir())) do after[name] = true end
      for _, name in ipairs(before) do after[name] = nil end
      for name in pairs(after) do assert.is_nil(name:find "^parley%-[^ks]", name) end
    end)

  it("a session id cannot name a path, and provider keys stay outside", function()
    failure_of("ValueError", process.new, { session_id = "../../etc/passwd" })
    failure_of("ValueError", process.new, { resume_session_id = "a/b" })
    local child = process.new { base_env = { ANTHROPIC_API_KEY = "x", ANTHROPIC_BASE_URL = "y", PATH = "z" } }
    assert.is_nil(child.environment.ANTHROPIC_API_KEY)
    assert.is_nil(child.environment.ANTHROPIC_BASE_URL)
    assert.equal("z", child.environment.PATH)
  end)
end)
