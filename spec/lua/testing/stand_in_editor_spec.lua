--- The stand-in's editor on a real pty: what Ctrl-G does with the composer, as measured on the published program.
local files = require "parley.base.files"
local helper = require "spec.helper"
local testing = require "parley.testing"
local play = require "spec.lua.testing.play"

local CTRL_G = "\7"

describe("the stand-in's editor", function()
  local leaks, folder

  before_each(function()
    leaks = testing.leaks()
    folder = helper.temporary_folder()
  end)

  after_each(function()
    helper.remove_folders()
    leaks:check()
  end)

  ---A kit whose user has this editor, which finds the prompt's path in `$1`.
  local function with(script, given)
    local options = { extra_env = { VISUAL = helper.write_script(folder .. "/editor", script) } }
    for name, value in pairs(given or {}) do options[name] = value end
    return options
  end

  local function shows(terminal, text)
    terminal:wait_for(function() return (terminal:composer() or ""):find(text, 1, true) end)
  end

  for _, profile in ipairs { "2.1.110", "2.1.197", "2.1.330" } do
    it(("shows what it is given, and takes what it leaves, verbatim (%s)"):format(profile), helper.task(function()
      local options = with(('cp "$1" %s/before; printf "\\ta\\n!b\\n/exit\\n\\nend\\n" > "$1"'):format(folder),
        { profile = profile })
      play.scene(options, function(kit, open)
        local terminal = open()
        terminal:write "left"
        shows(terminal, "left")
        terminal:write(CTRL_G)
        shows(terminal, "end")
        assert.equal("left", (files.read(folder .. "/before")))
        terminal:write "\r"
        testing.eventually(function() return kit:taken()[1] end)
        assert.same({ "\ta\n!b\n/exit\n\nend" }, kit:taken())
      end)()
    end))
  end

  it("has a notice in the composer's place until the screen is drawn anew", helper.task(function()
    play.scene(with(('echo new > "$1"; until [ -f %s/seen ]; do sleep 0.01; done'):format(folder)),
      function(_, open)
        local terminal = open()
        terminal:write(CTRL_G)
        terminal:wait_for "Save and close editor to continue..."
        assert.is_nil(terminal:composer())
        files.write(folder .. "/seen", "", true)
        shows(terminal, "new")
        assert.is_false(terminal:shows "Save and close")
      end)()
  end))

  it("leaves the composer as it is when it fails, and says so", helper.task(function()
    play.scene(with 'echo no > "$1"; exit 3', function(_, open)
      local terminal = open()
      terminal:write "mine"
      shows(terminal, "mine")
      terminal:write(CTRL_G)
      terminal:wait_for "quit unexpectedly (exit code 3)"
      shows(terminal, "mine")
    end)()
  end))

  it("does not come when its key is lost, or bound to something else", helper.task(function()
    play.scene(with('echo x >> ' .. folder .. '/opened', { script = { faults = { lose_editor = 1 } } }),
      function(_, open)
        local terminal = open()
        terminal:write(CTRL_G)
        terminal:write "a"
        shows(terminal, "a")
        assert.is_nil(files.read(folder .. "/opened"))
        terminal:write(CTRL_G)
        testing.eventually(function() return files.read(folder .. "/opened") end)
      end)()
  end))

  it("shows a long text without its middle, and folds that when it is opened again", helper.task(function()
    play.scene(with([[[ -s "$1" ] || awk 'BEGIN { for (i = 0; i < 3000; i++) printf "%d ", i; print "end" }' > "$1"]]),
      function(kit, open)
        local terminal = open()
        terminal:write(CTRL_G)
        shows(terminal, "[...Truncated text #1 +0 lines...]")
        terminal:write(CTRL_G)
        shows(terminal, "[Pasted text #1]")
        terminal:write "\r"
        testing.eventually(function() return kit:taken()[1] end)
        assert.matches("<pasted_content", kit:taken()[1])
        terminal:write(CTRL_G)
        shows(terminal, "[...Truncated text #2 +0 lines...]")
      end)()
  end))
end)
