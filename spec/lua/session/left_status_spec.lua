-- Status files that say what is not so. That of a killed program stays behind, and a container that is started again
-- gives the same numbers out; the program writes none any more that it cannot read.
local files = require "parley.base.files"
local helper = require "spec.helper"
local process = require "parley.claude.process"
local session = require "parley.session"
local testing = require "parley.testing"

describe("a status file that a killed program of the same number has left", function()
  for _, word in ipairs { "busy", "idle" } do
    it("does not hide the dialog of the start: " .. word, helper.task(function()
      local kit <close> = testing.kit { trusted = false }
      local one = process.new(kit.options)
      local start = one.start
      function one:start()
        start(self) -- the kernel gives the number out, and the program has written nothing yet
        local folder = kit.home .. "/.claude/sessions"
        files.make_folder(folder)
        helper.write(("%s/%d.json"):format(folder, self:pid()), ('{"pid":%d,"version":"2.1.330","status":"%s",'
          .. '"sessionId":"11111111-1111-4111-8111-111111111111","statusUpdatedAt":1}'):format(self:pid(), word))
      end
      local live <close> = session.new(one, { startup_timeout_ms = 20000 })
      assert.equal("DialogError", helper.error_of(live.start, live).code)
    end))
  end
end)

describe("a status file that others have torn in a turn", function()
  it("keeps the next message not waiting", helper.task(function()
    local kit <close> = testing.kit { script = { answers = { { on = "work", after = "done", tool = { name = "Bash",
      input = { command = "true" }, result = "", duration_ms = 3000 } } } } }
    local live <close> = session.new(process.new(kit.options), { stall_timeout_ms = 20000 })
    live:start()
    local said = helper.say(live, "work", function(event)
      if event.type ~= "assistant" or #event:blocks "tool_use" == 0 then return end
      helper.eventually(function() return live.terminal:status().status == "busy" end)
      helper.write(("%s/.claude/sessions/%d.json"):format(kit.home, live.process:pid()), '{"pid":')
    end)
    assert.equal("success", said.verdict)
    assert.same({ "echo: on" }, helper.say(live, "on").texts)
  end))
end)

describe("a program behind a wrapper that stays", function()
  local folder
  before_each(function() folder = helper.temporary_folder() end)
  after_each(helper.remove_folders)

  for _, profile in ipairs { "2.1.110", "2.1.330" } do
    it("is found by its status file, and takes long texts through its editor: " .. profile, helper.task(function()
      local kit <close> = testing.kit { script = { profile = profile } }
      local wrapper, options = folder .. "/claude", { executable = folder .. "/claude" }
      helper.write_script(wrapper, ("'%s' \"$@\"\nstatus=$?\nexit $status"):format(kit.executable))
      for name, value in pairs(kit.options) do options[name] = options[name] or value end
      local live <close> = session.new(process.new(options), { stall_timeout_ms = 20000 })
      live:start()
      local text = ("long line\n"):rep(100) .. "end"
      assert.same({ "echo: " .. text }, helper.say(live, text).texts)
      assert.not_equal(live.process:pid(), live.terminal:status().pid)
      assert.equal(live.session_id, live.terminal:status().sessionId)
    end))
  end
end)
